"""A picture as a model sees it, resized and cropped as in training, and which region of the original that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import TooLarge

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_BLACK = (0, 0, 0)
_MOST_RESIZED = 1 << 24  # pixels of a resized picture that is still made whole, 64 MiB


class Region(NamedTuple):
    """A rectangle: left, top, right and bottom edge. A pixel is one unit wide and has its centre at .5."""

    x0: float
    y0: float
    x1: float
    y1: float

    def scaled(self, x: float, y: float) -> Region:
        """The rectangle in coordinates that are ``x`` and ``y`` times as fine."""
        return Region(self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """Picture prepared for a model: the pixels that it sees, and the part of the original that they cover.

    Attributes:
        pixels: (height, width, 3) uint8, contiguous and read-only: the model's input as a picture, before normalising.
        region: the part of the original that ``pixels`` cover, in its pixels; reaches beyond it where padded.
        image_size: (width, height) of the original.
    """

    pixels: NDArray[np.uint8]
    region: Region
    image_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the model's input."""
        return self.pixels.shape[1], self.pixels.shape[0]


def prepare(
    image: Image.Image,
    *,
    resize: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    pad: int | None = None,
    interpolation: str = "bilinear",
    fill: tuple[int, int, int] = _BLACK,
) -> PreparedImage:
    """``image`` (mode RGB) as a model sees it.

    ``resize`` and ``crop`` give the very pixels of torchvision's ``resize`` and ``center_crop`` on a PIL image.

    Args:
        image: the original, mode RGB.
        resize: length of the shorter side, aspect kept; or (height, width), aspect ignored.
        crop: (height, width), or the side of a square, cut from the centre; black where the picture is smaller.
        pad: instead of both: side of a square that holds the whole picture, its longer side filling it.
        interpolation: one of `INTERPOLATIONS`.
        fill: RGB of the square that ``pad`` leaves empty.

    Raises:
        TooLarge: without a crop, a very long picture would be resized to more than 16 million pixels.
    """
    size, box, region = _window(image.size, resize, crop, pad)
    pixels = _cut(image, size, box, INTERPOLATIONS[interpolation], fill if pad is not None else _BLACK)
    return PreparedImage(np.asarray(pixels), region, image.size)


def prepare_bands(
    bands: Sequence[NDArray[Any]],
    *,
    resize: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    pad: int | None = None,
    interpolation: str = "bilinear",
    fill: Sequence[float],
) -> tuple[NDArray[np.float32], Region]:
    """Bands of numbers of any range as a model sees them, in their own units, not rounded.

    Args:
        bands: each (H, W), real.
        resize: as for `prepare`.
        crop: as for `prepare`; 0 where the bands are smaller.
        pad: as for `prepare`.
        interpolation: one of `INTERPOLATIONS`.
        fill: of each band, what ``pad`` leaves empty.

    Returns:
        values: (height, width, bands) float32.
        region: the part of the original that they cover, in its pixels.

    Raises:
        TooLarge: as `prepare`.
    """
    height, width = bands[0].shape
    size, box, region = _window((width, height), resize, crop, pad)
    edges = fill if pad is not None else [0.0] * len(bands)
    seen = [
        np.asarray(_cut(Image.fromarray(band.astype(np.float32)), size, box, INTERPOLATIONS[interpolation], edge))
        for band, edge in zip(bands, edges, strict=True)
    ]
    return np.stack(seen, axis=2), region


def _window(
    original: tuple[int, int],
    resize: int | tuple[int, int] | None,
    crop: int | tuple[int, int] | None,
    pad: int | None,
) -> tuple[tuple[int, int], tuple[int, int, int, int], Region]:
    """(width, height) that the original is resized to, the box cut from that, and the same box in the original."""
    if pad is not None:
        size, window = _longest_side(original, pad), (pad, pad)
    else:
        size = _resized(original, resize)
        window = size if crop is None else _width_height(crop)
    left, top = _margin(size[0], window[0]), _margin(size[1], window[1])
    box = (left, top, left + window[0], top + window[1])
    return size, box, Region(*box).scaled(original[0] / size[0], original[1] / size[1])


def fit(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(width, height) of the same aspect, longer side at most ``max_side``, never enlarged, at least 1×1."""
    return size if max(size) <= max_side else _longest_side(size, max_side)


def _longest_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of the same aspect whose longer side is ``side``."""
    width, height = size
    scale = side / max(size)
    return (side, max(1, round(height * scale))) if width >= height else (max(1, round(width * scale)), side)


def _resized(size: tuple[int, int], resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) after torchvision's ``resize``, rounded down as there."""
    if resize is None:
        return size
    if not isinstance(resize, int):
        return _width_height(resize)
    width, height = size
    if width <= height:
        return resize, int(resize * height / width)
    return int(resize * width / height), resize


def _width_height(height_width: int | tuple[int, int]) -> tuple[int, int]:
    """Torch's (height, width), or the side of a square, as (width, height)."""
    if isinstance(height_width, int):
        return height_width, height_width
    return height_width[1], height_width[0]


def _margin(length: int, window: int) -> int:
    """Where a centred window begins, negative if it is the longer; rounded as by torchvision's ``center_crop``."""
    return round((length - window) / 2) if window <= length else -((window - length) // 2)


def _cut(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    resample: Image.Resampling,
    fill: tuple[int, int, int] | float,
) -> Image.Image:
    """The part ``box`` of ``image`` resized to ``size``; ``fill`` where the box reaches beyond it."""
    width, height = size
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if width * height <= _MOST_RESIZED:
        part = image.resize(size, resample).crop(inside)
    else:  # a ribbon: 1×5000 pixels would become 256×1280000, of which the model sees one in 5700
        part = _resized_part(image, size, inside, resample)
    if inside == box:
        return part
    padded = Image.new(image.mode, (right - left, bottom - top), fill)
    padded.paste(part, (inside[0] - left, inside[1] - top))
    return padded


def _resized_part(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int], resample: Image.Resampling
) -> Image.Image:
    """The part ``box`` of ``image`` resized to ``size``, without making the rest.

    Not to the bit: Pillow rounds after each of its two passes, and takes them in the order that suits the size.
    """
    part = (box[2] - box[0], box[3] - box[1])
    if part[0] * part[1] > _MOST_RESIZED:
        raise TooLarge(f"The picture would become {part[0]}×{part[1]} pixels to this model; send one of less aspect.")
    source = Region(*box).scaled(image.width / size[0], image.height / size[1])
    return image.resize(part, resample, box=source)
