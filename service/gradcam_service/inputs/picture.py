"""A picture of 8-bit colours, as cameras take them: JPEG, PNG, WebP, GIF, BMP and TIFF; and DICOM as it is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import prepare
from gradcam_service.images.numbers import ENDINGS, MEDIA_TYPES, NPY, numbers_of, read_numbers, size_of_numbers
from gradcam_service.inputs import Input, Preparing, Received, Takes
from gradcam_service.inputs._warnings import hardly_used

_REMEDY = "a picture of more bits is seen whole by a model with input: {depth: 16, range: [low, high]} in model.yaml"
_ENOUGH = 256  # pixels on a side that are looked at before all are


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Decode a picture upright, in red, green and blue, and resize it to the very pixels of torchvision's transform.

    Raises:
        TooLarge: it has more than ``max_pixels`` pixels.
        UndecodableImage: it is no picture, or damaged.
        UnfitInput: it is an array of other numbers than a picture's.
    """
    if data.startswith(NPY):
        return _received(_of_array(read_numbers(data, "rgb", max_pixels).values), takes, preprocess)
    return _received(decode(data, max_pixels), takes, preprocess)


def receive_array(values: NDArray[Any], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Take an array for a picture's pixels, and resize it as `receive` does.

    Raises:
        TooLarge, UndecodableImage, UnfitInput: as `receive` does of a file of such an array.
    """
    return _received(_of_array(numbers_of(values, max_pixels).values), takes, preprocess)


def _received(image: Image.Image, takes: Takes, preprocess: Preparing) -> Received:
    geometry, blue_first = preprocess.geometry(), takes.channels == "bgr"
    if blue_first:  # to the model alone: pictures stay red, green and blue
        geometry["fill"] = geometry["fill"][::-1]
    prepared = prepare(image, **geometry)
    pixels = np.ascontiguousarray(prepared.pixels[:, :, ::-1]) if blue_first else prepared.pixels
    return Received({"image": pixels}, prepared, lambda: image, _warnings(image, preprocess))


def _of_array(values: NDArray[Any]) -> Image.Image:
    if values.dtype != np.uint8 or values.shape[2:] not in ((), (3,)):
        raise UnfitInput(
            f"an array {values.shape} of {values.dtype} doesn't fit this model; uint8 (H, W, 3) or (H, W) would work"
        )
    return Image.fromarray(values).convert("RGB")


def _warnings(image: Image.Image, preprocess: Preparing) -> tuple[str, ...]:
    """All of a picture is looked at only where a few of its pixels are all alike."""
    few = image.resize((min(image.width, _ENOUGH), min(image.height, _ENOUGH)), Image.Resampling.NEAREST)
    for looked_at in (few, image):
        lows, highs = zip(*looked_at.getextrema(), strict=True)
        warnings = hardly_used((min(lows), max(highs)), (0, 255), preprocess.std, _REMEDY)
        if not warnings:
            break
    return warnings


INPUT = Input(MEDIA_TYPES, receive, size_of_numbers, receive_array=receive_array, endings=ENDINGS)
