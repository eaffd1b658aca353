"""Bytes to pixels to pictures: decode, prepare for a model, draw where it looked.

    decode      bytes                 → an upright RGB picture
    geometry    a picture             → the uint8 pixels a model sees, and the region of the picture they cover
    canvas      a map and its view    → heat: the map's levels, 0 to 255, on a canvas
    render      heat (and a backdrop) → an encoded heatmap or overlay
    boxes       a map and its view    → the box around what the model looked at

Nothing here knows of HTTP or of torch, and nothing keeps state: every function may run in any thread.
"""
