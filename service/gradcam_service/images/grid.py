"""Pictures side by side, each with its name, and what their colours mean below."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from PIL import Image, ImageDraw, ImageFont

from gradcam_service.images.colormaps import default_colormap
from gradcam_service.images.legend import colour_bar
from gradcam_service.maps import MapKind

_TILE = 256  # pixels of the longest side
_CAPTION = 22
_GAP = 6
_BAR = (128, 12)
_ENDS: dict[MapKind, tuple[str, str]] = {
    "unsigned": ("little", "much"),
    "signed": ("speaks against", "speaks for"),
    "signed_colour": ("a colour lowers the score", "raises it"),
}


def labelled_grid(
    pictures: Sequence[tuple[str, Image.Image]], kinds: Collection[MapKind] = (), colormap: str | None = None
) -> Image.Image:
    """Pictures in rows that are as full as can be, each shrunk or enlarged to fit a tile, its name below it.

    Args:
        pictures: names and pictures.
        kinds: of the maps among them, for the legend below; none for no legend.
        colormap: what they were drawn with; default: that of each kind.

    Returns:
        An image of mode RGB, on white.
    """
    fitted = [_fitted(picture) for _, picture in pictures]
    width, height = (max(picture.size[axis] for picture in fitted) for axis in (0, 1))
    columns = _columns(len(fitted), width / (height + _CAPTION))
    step = width + _GAP, height + _CAPTION + _GAP
    below = math.ceil(len(fitted) / columns) * step[1] + _GAP
    font = ImageFont.load_default(15)
    legend = _legend(kinds, colormap, font)
    right = max(columns * step[0] + _GAP, legend.width)
    grid = Image.new("RGB", (right, below + legend.height), "white")
    draw = ImageDraw.Draw(grid)
    for place, ((name, _), picture) in enumerate(zip(pictures, fitted, strict=True)):
        x, y = _GAP + place % columns * step[0], _GAP + place // columns * step[1]
        grid.paste(picture, (x + (width - picture.width) // 2, y + (height - picture.height) // 2))
        draw.text((x + width / 2, y + height + 3), name, fill="black", font=font, anchor="ma")
    grid.paste(legend, (0, below))
    return grid


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _TILE / max(picture.size)
    return picture.convert("RGB").resize([max(1, round(side * scale)) for side in picture.size])


def _columns(count: int, aspect: float) -> int:
    """How many columns leave the fewest places empty; of those, the ones that make a grid nearest to 2:1."""
    possible = range(min(count, 3), min(count, 7) + 1)

    def waste(columns: int) -> tuple[int, float]:
        rows = math.ceil(count / columns)
        return rows * columns - count, abs(math.log(columns * aspect / rows / 2))

    return min(possible, key=waste)


def _legend(
    kinds: Collection[MapKind], colormap: str | None, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Image.Image:
    """What each kind's colours mean, in one row; nothing for no kinds."""
    ends = [(kind, *_ENDS[kind]) for kind in _ENDS if kind in kinds]
    width = sum(math.ceil(font.getlength(low) + font.getlength(high)) + _BAR[0] + 8 * _GAP for _, low, high in ends)
    row = Image.new("RGB", (width, _CAPTION + _GAP if ends else 0), "white")
    draw = ImageDraw.Draw(row)
    x, middle = 2 * _GAP, _CAPTION // 2
    for kind, low, high in ends:
        draw.text((x, middle), low, fill="black", font=font, anchor="lm")
        x += math.ceil(font.getlength(low)) + _GAP
        row.paste(colour_bar(kind, colormap or default_colormap(kind), _BAR), (x, middle - _BAR[1] // 2))
        x += _BAR[0] + _GAP
        draw.text((x, middle), high, fill="black", font=font, anchor="lm")
        x += math.ceil(font.getlength(high)) + 6 * _GAP
    return row
