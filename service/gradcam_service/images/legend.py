"""The scale of a map as a picture: its colours, and the values that they mean."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gradcam_service.images.canvas import Heat
from gradcam_service.images.colormaps import table
from gradcam_service.maps import MapKind

_LEAST_HEIGHT = 64  # pixels; three numbers fit
_BAR = 1.2  # width of the bar, in heights of the text


def with_legend(picture: Image.Image, heat: Heat, colormap: str) -> Image.Image:
    """``picture`` (mode RGB) with the map's scale to its right, on white: the highest value on top."""
    height = max(picture.height, _LEAST_HEIGHT)
    strip = _strip(heat, height, colormap)
    whole = Image.new("RGB", (picture.width + strip.width, height), "white")
    whole.paste(picture, (0, 0))
    whole.paste(strip, (picture.width, 0))
    return whole


def colour_bar(kind: MapKind, colormap: str, size: tuple[int, int]) -> Image.Image:
    """The colours of a scale from left (the lowest level) to right, mode RGB. Signed colours: black to white."""
    levels = np.rint(np.linspace(0 if kind == "unsigned" else 1, 255, size[0])).astype(np.uint8)
    colours = np.repeat(levels[:, None], 3, axis=1) if kind == "signed_colour" else table(colormap, kind)[levels]
    return Image.fromarray(np.broadcast_to(colours, (size[1], *colours.shape)).copy())


def scale_font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font for a picture of so many pixels' height."""
    return ImageFont.load_default(min(max(height / 24, 11), 32))


def _strip(heat: Heat, height: int, colormap: str) -> Image.Image:
    font = scale_font(height)
    middle = () if heat.kind == "unsigned" else (0.0,)
    texts = [number(value) for value in (heat.high, *middle, heat.low)]
    _, top, _, bottom = font.getbbox("0")
    line = round(bottom - top)
    gap, bar = max(line // 2, 4), round(_BAR * line)
    width = round(max(font.getlength(text) for text in texts))
    strip = Image.new("RGB", (gap + bar + gap + width + gap, height), "white")
    first, last = line, height - line
    colours = colour_bar(heat.kind, colormap, (last - first, bar)).transpose(Image.Transpose.ROTATE_90)
    strip.paste(colours, (gap, first))
    draw = ImageDraw.Draw(strip)
    for text, y in zip(texts, np.linspace(first, last, len(texts)), strict=True):
        draw.text((gap + bar + gap, float(y)), text, fill="black", font=font, anchor="lm")
    return strip


def number(value: float) -> str:
    """Three digits, in characters that Pillow's own font has: it knows no minus but the hyphen."""
    return f"{value:.3g}"
