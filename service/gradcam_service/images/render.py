"""Heat as encoded pictures: a transparent heatmap, or an overlay on a photo."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image

from gradcam_service.images.canvas import Box, Heat
from gradcam_service.images.colormaps import default_colormap, table
from gradcam_service.images.legend import with_legend
from gradcam_service.images.outline import draw_outline
from gradcam_service.images.png import encode_indexed

# How Pillow encodes an overlay: fast, at a quality where the photo shows no artefacts. For 500×375, drawing included:
# JPEG 0.6 ms, 43 kB; WebP 4 ms, 23 kB (its default method 4: 16 ms for 4 % less); PNG 12 ms, 290 kB.
ENCODINGS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 90},
    "png": {"compress_level": 1},
    "webp": {"quality": 85, "method": 0},
}
Blend: TypeAlias = Literal["even", "level"]

_OPACITY = {
    "unsigned": bytes(range(256)),
    "signed": bytes(min(round(abs(level - 128) / 127 * 255), 255) for level in range(256)),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture: ``data`` is a file of type ``media_type``, ``width`` × ``height`` pixels."""

    media_type: str
    width: int
    height: int
    data: bytes


def heatmap(heat: Heat, *, colormap: str | None = None, blend: Blend = "level") -> Picture:
    """A PNG to lay over the photo, indexed: the index is the level, the palette its colour.

    Nothing is lost: who wants the numbers reads the indices. Opacity is the level too; of a signed map its distance
    from 0. So what the model didn't see is transparent. Signed colours have no palette: an opaque RGB PNG.

    Args:
        heat: a map on its canvas.
        colormap: one of `colormaps.COLORMAPS`; default: that of the map's kind.
        blend: ``even`` for an RGBA PNG that is opaque where the model saw the photo and clear elsewhere.
    """
    if blend == "even":
        colours = _colours(heat, colormap or default_colormap(heat.kind)).copy()
        seen = Image.new("L", colours.size)
        seen.paste(255, heat.box)
        colours.putalpha(seen)
        return encoded(colours, "png")
    if heat.kind == "signed_colour":
        return encoded(heat.levels, "png")
    palette = table(colormap or default_colormap(heat.kind), heat.kind)
    data = encode_indexed(np.asarray(heat.levels), palette, _OPACITY[heat.kind])
    return Picture("image/png", *heat.levels.size, data)


def overlay(
    heat: Heat,
    backdrop: Image.Image,
    *,
    colormap: str | None = None,
    alpha: float = 0.5,
    blend: Blend = "even",
    outline: bool = False,
    legend: bool = False,
) -> Image.Image:
    """The photo with the heat's colours over it: (1 - a) · photo + a · colour, to within one level.

    What the model didn't see stays as it is. A new picture, mode RGB.

    Args:
        heat: a map on its canvas.
        backdrop: the photo, mode RGB, as `canvas.backdrop` makes it; resized to the canvas if it differs.
        colormap: one of `colormaps.COLORMAPS`; default: that of the map's kind. Signed colours are their own.
        alpha: strength of the colours, 0 to 1.
        blend: what a is: ``even``, alpha wherever the model saw the photo; ``level``, alpha times the opacity of
            `heatmap`, so that cold areas stay clear. Signed colours, which have no levels, are always even.
        outline: whether a line is drawn around what the model saw, where that isn't all.
        legend: whether the scale is drawn to the right of the photo.
    """
    colormap = colormap or default_colormap(heat.kind)
    colours = _colours(heat, colormap)
    size = colours.size
    photo = backdrop if backdrop.size == size else backdrop.resize(size, Image.Resampling.BILINEAR)
    blended = _blended(photo, colours, _opacity(heat, alpha, blend), heat.box)
    if outline:
        draw_outline(blended, heat.box)
    return with_legend(blended, heat, colormap) if legend else blended


def _opacity(heat: Heat, alpha: float, blend: Blend) -> Image.Image | float:
    """Of the colours: 0 to 255 of each pixel (mode L), or 0 to 1 of all."""
    if blend == "even" or heat.kind == "signed_colour":
        return alpha
    return heat.levels.point([round(alpha * opacity) for opacity in _OPACITY[heat.kind]])


def _blended(photo: Image.Image, colours: Image.Image, opacity: Image.Image | float, box: Box) -> Image.Image:
    """A new picture: the photo, and within ``box`` the colours over it."""
    if isinstance(opacity, Image.Image):
        return Image.composite(colours, photo, opacity)  # beside the box, levels are those of nothing
    blended = Image.blend(photo.crop(box), colours.crop(box), opacity)
    if blended.size == photo.size:
        return blended
    whole = photo.copy()
    whole.paste(blended, box)
    return whole


def encoded(image: Image.Image, encoding: str) -> Picture:
    """A picture's file; ``encoding`` is one of `ENCODINGS`."""
    file = io.BytesIO()
    image.save(file, encoding, **ENCODINGS[encoding])
    return Picture(f"image/{encoding}", *image.size, file.getvalue())


def _colours(heat: Heat, colormap: str) -> Image.Image:
    """Levels as their colours, mode RGB; signed colours are their own."""
    if heat.kind == "signed_colour":
        return heat.levels
    levels = heat.levels.copy()
    levels.putpalette(table(colormap, heat.kind).tobytes())
    return levels.convert("RGB")
