"""Files of numbers to arrays, their range kept: gray pictures of 16 bits, TIFF of any bands and depth, NumPy's files.

Nothing is allocated for what a header claims before that is known to be within the limits.
"""

from __future__ import annotations

import io
import math
import sys
from tokenize import TokenError
from typing import Any

import numpy as np
import tifffile
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import UndecodableImage, first_line
from gradcam_service.images.decode import DAMAGED, complaining, loaded, over_white, rgb, size_of
from gradcam_service.images.dicom import read_dicom
from gradcam_service.images.samples import Channels, Samples, are_counts, check_size, check_type, of_type
from gradcam_service.images.signatures import kind
from gradcam_service.images.tiff import bands_of_tiff, read_bands, size_of_tiff

NPY = b"\x93NUMPY"
"""How NumPy's files begin."""

MEDIA_TYPES = ("image/*", "application/x-npy", "application/dicom")
"""Of the files that `read_numbers` reads, ``image/*`` for any of images."""
ENDINGS = (".tif", ".tiff", ".npy", ".dcm")
"""Of those among them that a browser doesn't know by these types."""

# What NumPy raises for damaged headers. It reads them as Python literals, whose parser has no memory for deep nesting.
_UNREADABLE = (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, TokenError)

_IS, _HOLDS = "This is an array", "This .npy file holds an array"
_COLOURS_OF_16_BITS = (2, 4, 6)  # PNG's colour types that Pillow reduces to 8 bits: RGB, gray with alpha, RGBA


def read_numbers(data: bytes, channels: Channels, max_pixels: int) -> Samples:
    """The numbers in a file as they are there.

    Args:
        data: a picture as `decode.decode` reads them, of DICOM the values; a TIFF file of any number of bands of any
            depth, uncompressed or deflated where it has several; or a ``.npy`` file.
        channels: what is wanted. Pictures of 8 bits are converted to ``rgb`` or ``gray``.
        max_pixels: most pixels, of up to four numbers each.

    Raises:
        TooLarge: it has more.
        UndecodableImage: it is none of these, or damaged.
    """
    if data.startswith(NPY):
        return of_type(_npy(data, max_pixels))
    if kind(data) == "DICOM":
        found = read_dicom(data, max_pixels)
        return of_type(pixels_of(Image.fromarray(found.values), channels)) if found.values.ndim == 3 else found
    with complaining(data):
        if kind(data) == "TIFF":
            return of_type(_tiff(data, channels, max_pixels))
        if kind(data) == "PNG" and data[24:25] == b"\x10" and data[25] in _COLOURS_OF_16_BITS:
            raise ValueError("of its 16-bit colours only 8 could be read; a TIFF or .npy file would work")
        return of_type(pixels_of(loaded(data, max_pixels), channels))


def size_of_numbers(data: bytes) -> tuple[int, int]:
    """(width, height) that a file's header claims; (0, 0) where it can't be read."""
    try:
        if data.startswith(NPY):
            height, width, *_ = _npy_header(data)[0]
        elif kind(data) == "TIFF":
            width, height = size_of_tiff(data)
        else:
            width, height = size_of(data)
        return (width, height) if are_counts((width, height)) else (0, 0)
    except (*DAMAGED, tifffile.TiffFileError, UndecodableImage):
        return 0, 0


def _tiff(data: bytes, channels: Channels, max_pixels: int) -> NDArray[Any]:
    """The numbers of a TIFF file in its own type, where Pillow has another for them."""
    bands = read_bands(data, channels, max_pixels)
    if bands is not None:
        return bands
    pixels, stored = pixels_of(loaded(data, max_pixels), channels), bands_of_tiff(data)
    return pixels.astype(stored[1]) if pixels.dtype == np.int32 and stored is not None else pixels


def pixels_of(image: Image.Image, channels: Channels) -> NDArray[Any]:
    """A decoded picture's numbers; its colours as shades, shades as colours, over white, where those are wanted."""
    if image.mode == "F" or image.mode.startswith("I"):
        return over_white(image)
    if channels == "gray":
        return np.asarray(rgb(image).convert("L"))
    if channels == "rgb" or image.mode in ("1", "P", "PA", "YCbCr"):
        return np.asarray(rgb(image))
    if "transparency" in image.info:
        return np.asarray(rgb(image).convert(image.mode))
    return np.asarray(image)


def numbers_of(values: NDArray[Any], max_pixels: int) -> Samples:
    """The numbers of an array that came otherwise than in a file, as `read_numbers` those of a ``.npy`` file.

    Raises:
        TooLarge: they are more.
        UndecodableImage: they are of another shape, or no numbers.
    """
    _check_shape(values.shape, max_pixels, _IS)
    check_type(values.dtype, "array")
    return of_type(values)


def read_frames(sent: bytes | NDArray[Any], max_pixels: int) -> NDArray[Any]:
    """Frames (frames, H, W) or (frames, H, W, C) in one of NumPy's files, or in an array.

    Raises:
        TooLarge: all together have more than ``max_pixels`` pixels.
        UndecodableImage: it holds something else, or is damaged.
    """
    if isinstance(sent, np.ndarray):
        _check_frames(sent.shape, max_pixels, _IS)
        return sent
    shape, *_ = header = _npy_header(sent)
    _check_frames(shape, max_pixels, _HOLDS)
    return _after(sent, *header)


def _check_shape(shape: tuple[int, ...], max_pixels: int, found: str) -> None:
    if len(shape) not in (2, 3) or not are_counts(shape):
        raise UndecodableImage(f"{found} {shape}; (H, W) or (H, W, bands) would work.")
    check_size((*shape, 1)[:3], max_pixels)


def _check_frames(shape: tuple[int, ...], max_pixels: int, found: str) -> None:
    if len(shape) not in (3, 4) or not are_counts(shape):
        raise UndecodableImage(f"{found} {shape}; (frames, H, W) or (frames, H, W, C) would work.")
    frames, height, width, *bands = shape
    check_size((frames * height, width, *bands, 1)[:3], max_pixels)


def _npy(data: bytes, max_pixels: int) -> NDArray[Any]:
    """The array in one of NumPy's files; nothing pickled is ever read."""
    shape, *_ = header = _npy_header(data)
    _check_shape(shape, max_pixels, _HOLDS)
    return _after(data, *header)


def _after(data: bytes, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], start: int) -> NDArray[Any]:
    """The numbers behind a header."""
    check_type(dtype, ".npy file")
    wanted = math.prod(shape) * dtype.itemsize
    if len(data) - start != wanted:
        raise UndecodableImage(f"This .npy file holds {len(data) - start} bytes of numbers, its header says {wanted}.")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


def _npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first index runs fastest, type, and where the numbers begin.

    Raises:
        UndecodableImage: it can't be read, or no array has such a shape.
    """
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if any(abs(size) > sys.maxsize for size in shape):
            raise ValueError("its header gives sizes that no array has")
    except _UNREADABLE as error:
        raise UndecodableImage(f"This .npy file can't be read: {first_line(error)}") from error
    return shape, fortran, dtype, file.tell()
