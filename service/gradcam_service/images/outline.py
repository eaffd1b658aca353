"""The outline of what the model saw, on a picture of which it didn't see all."""

from __future__ import annotations

from PIL import Image, ImageDraw

from gradcam_service.images.canvas import Box

_DASH = 3  # pixels; white ones and black ones in turn are seen on any picture


def draw_outline(picture: Image.Image, box: Box) -> None:
    """Draw a dashed line, a pixel wide, along the inner side of ``box``; none where that is all of ``picture``."""
    if box == (0, 0, *picture.size):
        return
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right, bottom), outline="black")
    for x in range(left, right + 1, 2 * _DASH):
        for y in (top, bottom):
            draw.line((x, y, min(x + _DASH - 1, right), y), fill="white")
    for y in range(top, bottom + 1, 2 * _DASH):
        for x in (left, right):
            draw.line((x, y, x, min(y + _DASH - 1, bottom)), fill="white")
