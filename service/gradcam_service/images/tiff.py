"""TIFF files of any bands and depth, and what their headers say before anything is unpacked."""

from __future__ import annotations

import io
import logging
import zlib
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gradcam_service.images.samples import Channels, check_size, check_type

_BITS = 8  # of a picture's numbers
_SINGLE = ("uint16", "int16", "int32", "float32")  # what Pillow reads of a single band, in any compression
_DEFLATE = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)
_UNREADABLE = (tifffile.TiffFileError, OSError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError)

# Of a damaged file, each tag would be an error in the log; what is wrong with it is the caller's affair, and told.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def size_of_tiff(data: bytes) -> tuple[int, int]:
    """(width, height) that the header claims. Raises what tifffile does."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return file.pages.first.imagewidth, file.pages.first.imagelength


def bands_of_tiff(data: bytes) -> tuple[int, np.dtype[Any]] | None:
    """How many bands, and the type of their numbers (of a single bit bool); None where the header can't be read."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            return None if page.dtype is None else (page.samplesperpixel, page.dtype)
    except _UNREADABLE:
        return None


def read_bands(data: bytes, channels: Channels, max_pixels: int) -> NDArray[Any] | None:
    """The bands of a TIFF file's first page, (H, W, bands); None where it is better read as a picture.

    Raises:
        TooLarge: it has more pixels.
        UndecodableImage: its numbers are complex.
        ValueError: it is damaged, or of a layout or a compression that isn't read.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if page.bitspersample <= _BITS and (page.samplesperpixel == 1 or not isinstance(channels, int)):
                return None
            if page.samplesperpixel == 1 and page.dtype in _SINGLE:
                return None
            if len(page.shape) != (3 if page.samplesperpixel > 1 else 2) or page.dtype is None:
                raise ValueError(f"its first page is {page.axes or 'nothing'}, not rows and columns of bands")
            check_type(page.dtype, "TIFF file")
            check_size((page.imagelength, page.imagewidth, page.samplesperpixel), max_pixels)
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
    check_size((height, width, together), max_pixels)
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
