"""Samples: the numbers in a file as they are there, what they mean as brightness, and bounds on how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradcam_service.errors import TooLarge, UndecodableImage

Channels = Literal["rgb", "gray"] | int
"""Colours or shades that a picture of any kind is converted to, or how many bands, taken as they are."""

_BANDS = 4  # so many numbers a pixel may have, or the more, the fewer pixels
_MOST_BYTES = 2  # of an unsigned integer whose largest value is white
_KINDS = {"u": "unsigned integers", "i": "signed integers", "f": "floating-point numbers", "c": "complex numbers"}


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a file.

    Attributes:
        values: (H, W) or (H, W, bands), unsigned, signed or floating-point.
        ends: the values that are black and white, as the file's header or the type of unsigned integers has it; None
            where neither does. The first is the larger one where small values are bright.
        picture: (H, W, 3) uint8, how the file says that it is to be seen; None where it doesn't.
    """

    values: NDArray[Any]
    ends: tuple[float, float] | None
    picture: NDArray[np.uint8] | None = None


def of_type(values: NDArray[Any]) -> Samples:
    """Samples whose type says what is white: the largest of unsigned integers of 8 or 16 bits."""
    white = values.dtype.kind == "u" and values.dtype.itemsize <= _MOST_BYTES
    return Samples(values, (0.0, float(np.iinfo(values.dtype).max)) if white else None)


def described(dtype: np.dtype[Any]) -> str:
    """A type in plain words: ``16-bit signed integers``."""
    return f"{8 * dtype.itemsize}-bit {_KINDS.get(dtype.kind, dtype.name)}"


def are_counts(values: tuple[object, ...]) -> bool:
    """Whether they are numbers above 0: a damaged tag may be text, of which arithmetic would make a lot."""
    return all(isinstance(value, int) and value > 0 for value in values)


def check_type(dtype: np.dtype[Any], holder: str) -> None:
    """Refuse numbers that are neither integers nor floating-point ones.

    Raises:
        UndecodableImage: saying what the file holds.
    """
    if dtype.kind not in "uif":
        raise UndecodableImage(f"This {holder} holds {dtype}; integers or floating-point numbers would work.")


def check_size(shape: tuple[int, ...], max_pixels: int) -> None:
    """Refuse an array (H, W, bands) of more than ``max_pixels`` pixels.

    Raises:
        TooLarge: it has more.
        ValueError: these are no sizes.
    """
    if not are_counts(shape):
        raise ValueError("its header gives sizes that are no numbers")
    height, width, bands = shape
    if height * width * max(bands, _BANDS) > max_pixels * _BANDS:
        raise TooLarge(
            f"The array has {height}×{width} pixels of {bands} bands; the limit is {max_pixels} of {_BANDS} bands."
        )
