"""Arrays of one, three or any number of bands, of 8 or 16 bits or floating-point, their range kept to the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage, prepare, prepare_bands
from gradcam_service.images.numbers import ENDINGS, MEDIA_TYPES, numbers_of, read_numbers, size_of_numbers
from gradcam_service.images.samples import Samples, described, of_type
from gradcam_service.inputs import Input, Preparing, Received, Takes
from gradcam_service.inputs._warnings import beyond_unit, hardly_used

_PERCENTILES = (1, 99)
"""Of a band's values: what is drawn black and white under an overlay."""
_SAMPLE = 100_000  # pixels that percentiles are taken of
_MOST = float(np.finfo(np.float32).max)
_REMEDY = "where its file has more bits than its numbers, name the range in model.yaml (input: {range: [low, high]})"


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Read numbers, see that they fit the model, and resize each band without rounding.

    Raises:
        TooLarge: there are too many.
        UndecodableImage: it is no file of numbers, or damaged.
        UnfitInput: they are of another shape or type than the model takes.
    """
    return _received(read_numbers(data, takes.read_as, max_pixels), takes, preprocess)


def receive_array(values: NDArray[Any], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Receive the numbers of an array as `receive` those of a file of it.

    Raises:
        TooLarge, UndecodableImage, UnfitInput: as `receive` does.
    """
    return _received(numbers_of(values, max_pixels), takes, preprocess)


def _received(samples: Samples, takes: Takes, preprocess: Preparing) -> Received:
    if takes.depth == 8 and samples.picture is not None:
        samples = of_type(samples.picture[:, :, :1])
    values = _fitting(samples, takes)
    black, white = _ends(samples, takes)
    found = float(values.min()), float(values.max())
    if takes.depth == "float" and takes.range is None:
        warnings = beyond_unit(found, preprocess.mean, preprocess.std)
    else:
        warnings = hardly_used(found, (black, white), preprocess.std, _REMEDY)
    bands = [_unit(values[:, :, band], black, white, clip=takes.range is not None) for band in range(takes.count)]
    seen, region = prepare_bands(bands, **preprocess.geometry() | {"fill": preprocess.mean})
    if samples.picture is not None:
        original = Image.fromarray(samples.picture)
        prepared = prepare(original, **preprocess.geometry() | {"fill": (0, 0, 0)})
        return Received({"image": seen}, prepared, lambda: original, warnings)
    limits = [drawn_limits(bands[band], values.dtype, black, white) for band in takes.shown]
    pixels = as_picture([seen[:, :, band] for band in takes.shown], limits)
    height, width = values.shape[:2]
    prepared = PreparedImage(pixels, region, (width, height))
    shown = [bands[band] for band in takes.shown]
    return Received({"image": seen}, prepared, lambda: Image.fromarray(as_picture(shown, limits)), warnings)


def _fitting(samples: Samples, takes: Takes) -> NDArray[Any]:
    """The array as (H, W, bands), where it has as many as the model takes, and no other numbers.

    Raises:
        UnfitInput: it hasn't.
    """
    values = samples.values
    wanted = f"(H, W, {takes.count})" + (" or (H, W)" if takes.count == 1 else "")
    shaped = values[:, :, None] if values.ndim == 2 else values
    if takes.channels in ("rgb", "bgr") and shaped.shape[2] == 1:
        shaped = np.repeat(shaped, 3, axis=2)
    if shaped.shape[2] != takes.count:
        raise UnfitInput(f"an array {values.shape} doesn't fit this model, which takes {wanted}")
    if takes.depth == "float":
        if not (float(shaped.min()) >= -_MOST and float(shaped.max()) <= _MOST):
            raise UnfitInput("some of the numbers are not finite in float32 (NaN or infinity); finite ones would work")
    elif samples.ends is None and (takes.range is None or shaped.dtype.kind == "f"):
        raise UnfitInput(
            f"{described(shaped.dtype)} ({shaped.dtype}) don't fit this model, which takes unsigned integers of 8 or "
            "16 bits (uint8 from 0 to 255, uint16 from 0 to 65535); in model.yaml, input: {depth: float} takes any "
            "numbers as they are, and a range signed integers too"
        )
    return shaped[:, :, ::-1] if takes.channels == "bgr" else shaped


def _ends(samples: Samples, takes: Takes) -> tuple[float, float]:
    """The numbers that the model is given as 0 and 1."""
    if takes.depth == "float":
        return takes.range or (0.0, 1.0)
    if takes.range is None or samples.values.dtype == np.uint8:
        assert samples.ends is not None
        return samples.ends
    low, high = takes.range
    return (high, low) if samples.ends is not None and samples.ends[0] > samples.ends[1] else (low, high)


def _unit(band: NDArray[Any], black: float, white: float, *, clip: bool) -> NDArray[np.float32]:
    """A band (H, W) with ``black`` as 0 and ``white`` as 1."""
    if (black, white) == (0.0, 1.0):
        return band.astype(np.float32)
    scaled = (band.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    return np.clip(scaled, 0, 1) if clip else scaled


def drawn_limits(band: NDArray[np.float32], dtype: np.dtype[Any], black: float, white: float) -> tuple[float, float]:
    """What is drawn black and white of a band: all of the range of 8 bits, else most of what there is."""
    if dtype == np.uint8:
        return -black / (white - black), (255 - black) / (white - black)
    step = max(1, int((band.size / _SAMPLE) ** 0.5))
    low, high = np.percentile(band[::step, ::step].astype(np.float64), _PERCENTILES)
    return float(low), float(high)


def as_picture(bands: list[NDArray[np.float32]], limits: list[tuple[float, float]]) -> NDArray[np.uint8]:
    """Three bands (H, W) as red, green and blue."""
    shades = []
    for band, (low, high) in zip(bands, limits, strict=True):
        scale = 255 / (high - low) if high > low else 0.0
        level = (band - np.float32(low)) * np.float32(scale)
        shades.append((np.clip(level, 0, 255) + 0.5).astype(np.uint8))
    return np.stack(shades, axis=2)


INPUT = Input(MEDIA_TYPES, receive, size_of_numbers, receive_array=receive_array, endings=ENDINGS)
