"""A picture of 8-bit colours, as cameras take them: JPEG, PNG, WebP, GIF, BMP and TIFF."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import prepare
from gradcam_service.images.numbers import NPY, read_numbers, size_of_numbers
from gradcam_service.inputs import Input, Preparing, Received, Takes


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Decode a picture upright, in red, green and blue, and resize it to the very pixels of torchvision's transform.

    Raises:
        TooLarge: it has more than ``max_pixels`` pixels.
        UndecodableImage: it is no picture, or damaged.
        UnfitInput: it is an array of other numbers than a picture's.
    """
    image = _of_array(data, max_pixels) if data.startswith(NPY) else decode(data, max_pixels)
    prepared = prepare(image, **preprocess.geometry())
    return Received({"image": prepared.pixels}, prepared, lambda: image)


def _of_array(data: bytes, max_pixels: int) -> Image.Image:
    values = read_numbers(data, "rgb", max_pixels)
    if values.dtype != np.uint8 or values.shape[2:] not in ((), (3,)):
        raise UnfitInput(
            f"an array {values.shape} of {values.dtype} doesn't fit this model; uint8 (H, W, 3) or (H, W) would work"
        )
    return Image.fromarray(values).convert("RGB")


INPUT = Input(("image/*", "application/x-npy"), receive, size_of_numbers)
