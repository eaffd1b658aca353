"""Bytes to pixels to pictures: decode, prepare for a model, draw where it looked.

    decode      bytes                 → an upright RGB picture
    geometry    a picture             → the uint8 pixels a model sees, and the region of the picture they cover
    scale       a map and its kind    → the value at the end of its scale
    canvas      a map, prepared image → heat: the map's levels, 0 to 255, on a canvas
    render      heat (and a backdrop) → an encoded heatmap or overlay
    legend      heat                  → its colours and the values they mean
    grid        pictures              → all of them side by side
    boxes       a map, prepared image → the box around what the model looked at

Nothing here knows of HTTP or of torch, and nothing keeps state: every function may run in any thread.
"""
