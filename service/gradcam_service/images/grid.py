"""Pictures side by side, each with its name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_TILE = 256  # pixels
_CAPTION = 22
_GAP = 6


def labelled_grid(pictures: Sequence[tuple[str, Image.Image]], columns: int = 6) -> Image.Image:
    """Pictures in rows, each shrunk or enlarged to fit a tile, its name below. Mode RGB, on white."""
    rows = math.ceil(len(pictures) / columns)
    step = _TILE + _GAP, _TILE + _CAPTION + _GAP
    grid = Image.new("RGB", (min(columns, len(pictures)) * step[0] + _GAP, rows * step[1] + _GAP), "white")
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(15)
    for place, (name, picture) in enumerate(pictures):
        x, y = _GAP + place % columns * step[0], _GAP + place // columns * step[1]
        scale = _TILE / max(picture.size)
        fitted = picture.convert("RGB").resize([max(1, round(side * scale)) for side in picture.size])
        grid.paste(fitted, (x + (_TILE - fitted.width) // 2, y + (_TILE - fitted.height) // 2))
        draw.text((x + _TILE / 2, y + _TILE + 3), name, fill="black", font=font, anchor="ma")
    return grid
