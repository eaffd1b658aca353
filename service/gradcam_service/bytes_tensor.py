"""Tensors of ``BYTES`` in binary: each element behind its length, of four bytes, little endian.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_LENGTH = struct.Struct("<I")
PREFIX = _LENGTH.size
"""Bytes before each element."""


def packed(elements: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of elements, in pieces."""
    for element in elements:
        yield _LENGTH.pack(len(element))
        yield element


def length_at(data: bytes | memoryview, at: int) -> int:
    """The length of the element that begins there."""
    length: int = _LENGTH.unpack_from(data, at)[0]
    return length


def is_one(data: bytes | memoryview) -> bool:
    """Whether bytes are those of one element, length and all."""
    return len(data) >= PREFIX and length_at(data, 0) == len(data) - PREFIX
