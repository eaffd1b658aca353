"""Arrays of one, three or any number of bands, of 8 or 16 bits or floating-point, their range kept to the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage, prepare_bands
from gradcam_service.images.numbers import read_numbers, size_of_numbers
from gradcam_service.inputs import Input, Preparing, Received, Takes

_PERCENTILES = (1, 99)
"""Of a band's values: what is drawn black and white under an overlay."""
_SAMPLE = 100_000  # pixels that percentiles are taken of
_MOST = float(np.finfo(np.float32).max)
_MOST_BYTES = 2  # of an unsigned integer


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Read numbers, see that they fit the model, and resize each band without rounding.

    Raises:
        TooLarge: there are too many.
        UndecodableImage: it is no file of numbers, or damaged.
        UnfitInput: they are of another shape or type than the model takes.
    """
    values = _fitting(read_numbers(data, takes.channels, max_pixels), takes)
    full = _full(values.dtype, takes)
    bands = [values[:, :, band] for band in range(takes.count)]
    fill = [full * mean for mean in preprocess.mean]
    seen, region = prepare_bands(bands, **preprocess.geometry() | {"fill": fill})
    limits = _limits(values, takes)
    pixels = _picture([seen[:, :, band] for band in takes.shown], limits)
    height, width = values.shape[:2]
    prepared = PreparedImage(pixels, region, (width, height))
    shown = [bands[band] for band in takes.shown]
    return Received({"image": seen / np.float32(full)}, prepared, lambda: Image.fromarray(_picture(shown, limits)))


def _fitting(values: NDArray[Any], takes: Takes) -> NDArray[Any]:
    """The array as (H, W, bands), where it has as many as the model takes, and no other numbers.

    Raises:
        UnfitInput: it hasn't.
    """
    wanted = f"(H, W, {takes.count})" + (" or (H, W)" if takes.count == 1 else "")
    shaped = values[:, :, None] if values.ndim == 2 else values
    if takes.channels == "rgb" and shaped.shape[2] == 1:
        shaped = np.repeat(shaped, 3, axis=2)
    if shaped.shape[2] != takes.count:
        raise UnfitInput(f"an array {values.shape} doesn't fit this model, which takes {wanted}")
    if takes.depth == "float":
        if not (float(shaped.min()) >= -_MOST and float(shaped.max()) <= _MOST):
            raise UnfitInput("some of the numbers are not finite in float32 (NaN or infinity); finite ones would work")
    elif shaped.dtype.kind != "u" or shaped.dtype.itemsize > _MOST_BYTES:
        raise UnfitInput(
            f"numbers of type {shaped.dtype} don't fit this model, which takes unsigned integers of 8 or 16 bits "
            "(uint8 from 0 to 255, uint16 from 0 to 65535)"
        )
    return shaped


def _full(dtype: np.dtype[Any], takes: Takes) -> float:
    """The number that the model is given as 1."""
    return 1.0 if takes.depth == "float" else float(np.iinfo(dtype).max)


def _limits(values: NDArray[Any], takes: Takes) -> list[tuple[float, float]]:
    """What is drawn black and white of each shown band: all of the range of 8 bits, else most of what there is."""
    if values.dtype == np.uint8:
        return [(0.0, 255.0)] * 3
    step = max(1, int((values.shape[0] * values.shape[1] / _SAMPLE) ** 0.5))
    some = values[::step, ::step].astype(np.float64)
    found = [np.percentile(some[:, :, band], _PERCENTILES) for band in takes.shown]
    return [(float(low), float(high)) for low, high in found]


def _picture(bands: list[NDArray[Any]], limits: list[tuple[float, float]]) -> NDArray[np.uint8]:
    """Three bands (H, W) as red, green and blue."""
    shades = []
    for band, (low, high) in zip(bands, limits, strict=True):
        scale = 255 / (high - low) if high > low else 0.0
        level = (band.astype(np.float32) - np.float32(low)) * np.float32(scale)
        shades.append((np.clip(level, 0, 255) + 0.5).astype(np.uint8))
    return np.stack(shades, axis=2)


INPUT = Input(("image/*", "application/x-npy"), receive, size_of_numbers)
