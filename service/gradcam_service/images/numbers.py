"""Files of numbers to arrays, their range kept: gray pictures of 16 bits, TIFF of any bands and depth, NumPy's files.

Nothing is allocated for what a header claims before that is known to be within the limits.
"""

from __future__ import annotations

import io
import math
import sys
import zlib
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.errors import TooLarge, UndecodableImage, first_line
from gradcam_service.images.decode import DAMAGED, complaining, loaded, rgb, size_of
from gradcam_service.images.signatures import kind

Channels = Literal["rgb", "gray"] | int
"""Colours or shades that a picture of any kind is converted to, or how many bands, taken as they are."""

NPY = b"\x93NUMPY"
"""How NumPy's files begin."""

# What NumPy raises for damaged headers. It reads them as Python literals, whose parser has no memory for deep nesting.
_UNREADABLE = (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError, TokenError)

_BITS = 8  # of a picture's numbers
_SINGLE = ("uint16", "int16", "int32", "float32")  # what Pillow reads of a single band, in any compression
_BANDS = 4  # so many numbers a pixel may have, or the more, the fewer pixels
_DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)
_COLOURS_OF_16_BITS = (2, 4, 6)  # PNG's colour types that Pillow reduces to 8 bits: RGB, gray with alpha, RGBA


def read_numbers(data: bytes, channels: Channels, max_pixels: int) -> NDArray[Any]:
    """The numbers in a file as they are there.

    Args:
        data: a picture as `decode.decode` reads them, a TIFF file of any number of bands of any depth, uncompressed or
            deflated where it has several, or a ``.npy`` file.
        channels: what is wanted. Pictures of 8 bits are converted to ``rgb`` or ``gray``.
        max_pixels: most pixels, of up to four numbers each.

    Returns:
        (H, W) or (H, W, bands), unsigned, signed or floating-point.

    Raises:
        TooLarge: it has more.
        UndecodableImage: it is none of these, or damaged.
    """
    if data.startswith(NPY):
        return _npy(data, max_pixels)
    with complaining(data):
        if kind(data) == "TIFF" and (values := _bands(data, channels, max_pixels)) is not None:
            return values
        if kind(data) == "PNG" and data[24:25] == b"\x10" and data[25] in _COLOURS_OF_16_BITS:
            raise ValueError("of its 16-bit colours only 8 could be read; a TIFF or .npy file would work")
        return _samples(loaded(data, max_pixels), channels)


def size_of_numbers(data: bytes) -> tuple[int, int]:
    """(width, height) that a file's header claims; (0, 0) where it can't be read."""
    try:
        if data.startswith(NPY):
            height, width, *_ = _npy_header(data)[0]
        elif kind(data) == "TIFF":
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                width, height = file.pages.first.imagewidth, file.pages.first.imagelength
        else:
            width, height = size_of(data)
        return (width, height) if _are_counts((width, height)) else (0, 0)
    except (*DAMAGED, tifffile.TiffFileError, UndecodableImage):
        return 0, 0


def _samples(image: Image.Image, channels: Channels) -> NDArray[Any]:
    """A picture's numbers; its colours as shades, shades as colours, no transparency, where those are wanted."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    if channels == "gray":
        return np.asarray(rgb(image).convert("L"))
    if channels == "rgb" or image.mode in ("1", "P", "PA", "YCbCr"):
        return np.asarray(rgb(image))
    return np.asarray(image)


def _bands(data: bytes, channels: Channels, max_pixels: int) -> NDArray[Any] | None:
    """The bands of a TIFF file's first page, (H, W, bands); None where it is better read as a picture."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.bitspersample <= _BITS and (page.samplesperpixel == 1 or not isinstance(channels, int)):
                return None
            if page.samplesperpixel == 1 and page.dtype in _SINGLE:
                return None
            if len(page.shape) != (3 if page.samplesperpixel > 1 else 2) or page.dtype is None:
                raise ValueError(f"its first page is {page.axes or 'nothing'}, not rows and columns of bands")
            _check_type(page.dtype, "TIFF")
            _check((page.imagelength, page.imagewidth, page.samplesperpixel), max_pixels)
            _check_segments(page, data, max_pixels)
            values: NDArray[Any] = page.asarray(maxworkers=1)
    except (tifffile.TiffFileError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if values.shape != page.shape:
        raise ValueError("it holds fewer pixels than its header says")
    separate = values.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    return np.moveaxis(values, 0, 2) if separate else values


def _check_segments(page: tifffile.TiffPage, data: bytes, max_pixels: int) -> None:
    """See that no strip or tile is, or unpacks to, more than it should.

    Raises:
        TooLarge: a tile is larger than the limit.
        ValueError: its compression isn't read, or hides more than its header says.
    """
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    height = min(height, page.imagelength) if not page.is_tiled else height
    together = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.CONTIG else 1
    _check((height, width, together), max_pixels)
    if page.compression == tifffile.COMPRESSION.NONE:
        return
    if page.compression not in _DEFLATE:
        name = tifffile.COMPRESSION(page.compression).name
        raise ValueError(f"several bands are read uncompressed or deflated, not {name}")
    assert page.dtype is not None
    most = height * width * together * page.dtype.itemsize
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(zlib.decompressobj().decompress(data[offset : offset + size], most + 1)) > most:
            raise ValueError("a part of it unpacks to more than its header says")


def _npy(data: bytes, max_pixels: int) -> NDArray[Any]:
    """The array in one of NumPy's files; nothing pickled is ever read."""
    shape, fortran, dtype, start = _npy_header(data)
    _check_type(dtype, ".npy")
    if len(shape) not in (2, 3) or not _are_counts(shape):
        raise UndecodableImage(f"This .npy file holds an array {shape}; (H, W) or (H, W, bands) would work.")
    _check((*shape, 1)[:3], max_pixels)
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


def _are_counts(values: tuple[object, ...]) -> bool:
    """Whether they are numbers above 0: a damaged tag may be text, of which arithmetic would make a lot."""
    return all(isinstance(value, int) and value > 0 for value in values)


def _check_type(dtype: np.dtype[Any], name: str) -> None:
    """Raises `UndecodableImage` for a file of numbers that are neither integers nor floating-point ones."""
    if dtype.kind not in "uif":
        raise UndecodableImage(f"This {name} file holds {dtype}; integers or floating-point numbers would work.")


def _check(shape: tuple[int, ...], max_pixels: int) -> None:
    """Raises `TooLarge` for an array (H, W, bands) over the limit, ValueError if that is none."""
    if not _are_counts(shape):
        raise ValueError("its header gives sizes that are no numbers")
    height, width, bands = shape
    if height * width * max(bands, _BANDS) > max_pixels * _BANDS:
        raise TooLarge(
            f"The array has {height}×{width} pixels of {bands} bands; the limit is {max_pixels} of {_BANDS} bands."
        )
