"""An indexed PNG with transparency, written directly.

Pillow leaves the rows of an indexed picture unfiltered, which suits icons. A heatmap is smooth: written as the
difference from the pixel to its left, a row is mostly zeros, and the file is half as large and sooner done. ISA-L
compresses it in a quarter of zlib's time. Measured on 2 cores, a 7×7 map, best of 30:

                                 224×224             1024×1024
    Pillow, compress_level=1     0.37 ms   18 kB     4.4 ms   156 kB
    filtered, zlib's level 1     0.35 ms    8 kB     3.7 ms    71 kB
    filtered, ISA-L's level 1    0.09 ms    7 kB     0.9 ms    71 kB
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEXED = 3  # colour type
_SUB = 1  # filter: each byte less the one to its left
_LEVEL = 1


def encode_indexed(indices: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: bytes) -> bytes:
    """A PNG file of 8-bit palette indices.

    Args:
        indices: (height, width) uint8.
        palette: (256, 3) uint8, RGB.
        opacity: of each palette entry, 0 for transparent to 255 for opaque.
    """
    height, width = indices.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1] = indices[:, 0]
    np.subtract(indices[:, 1:], indices[:, :-1], out=rows[:, 2:])  # modulo 256, as the format wants it
    header = struct.pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"tRNS", opacity),
            _chunk(b"IDAT", isal_zlib.compress(rows.data, _LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk: length, name, data and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
