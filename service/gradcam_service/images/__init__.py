"""Bytes to pixels to pictures: decode, prepare for a model, draw where it looked.

    signatures  bytes                          → the name of their format
    decode      bytes                          → an upright RGB picture
    numbers     bytes                          → an array of any bands and depth, its range kept
    geometry    a picture or bands             → what a model sees, and the region of the picture that it covers
    scale       a map and its kind             → the value at the end of its scale
    canvas      a map and the prepared image   → heat: the map's levels, 0 to 255, on a canvas
    colormaps   a name and a map's kind        → the colours of its levels
    render      heat (and a backdrop)          → an encoded heatmap or overlay
    png         levels and their colours       → an indexed PNG
    legend      heat                           → its colours and the values they mean
    grid        pictures                       → all of them side by side
    boxes       a map and the prepared image   → the box around what the model looked at

Nothing here knows of HTTP or of torch, and nothing keeps state: every function may run in any thread.
"""
