"""Tensors as clients send and receive them: a datatype, a shape, and numbers or elements of bytes.

What is wrong with one is found by its shape and its length alone, before anything of its size is allocated: numbers are
views of what was received.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from gradcam_service.bytes_tensor import PREFIX, is_one, length_at, packed
from gradcam_service.errors import BadRequest, NotOffered, shortened
from gradcam_service.images.signatures import kind

BYTES = "BYTES"
DATATYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in (
        *(("BOOL", "?"), ("UINT8", "<u1"), ("UINT16", "<u2"), ("UINT32", "<u4"), ("UINT64", "<u8")),
        *(("INT8", "<i1"), ("INT16", "<i2"), ("INT32", "<i4"), ("INT64", "<i8")),
        *(("FP16", "<f2"), ("BF16", "<u2"), ("FP32", "<f4"), ("FP64", "<f8")),
    )
}
"""NumPy's type of each datatype's bytes; of BF16, which NumPy doesn't know, its bits."""

_MOST_DIMENSIONS = 8
MOST_ELEMENTS = 2**16
"""Of ``BYTES``; nothing here takes as many, and each costs a turn of a loop."""

Content: TypeAlias = Literal["", "base64", "str", "np"]


@dataclass(frozen=True, eq=False)
class Tensor:
    """Tensor of a request or an answer.

    Attributes:
        name: of an input or an output.
        datatype: one of `DATATYPES`, or ``BYTES``.
        shape: of the tensor.
        values: numbers in that shape; of ``BYTES`` its elements, row by row.
        content: what MLServer's codecs read it by in JSON; ``base64`` of elements that are no text, ``str`` of those
            that came as text.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: np.ndarray | list[bytes]
    content: Content = ""


def count_of(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has.

    Raises:
        BadRequest: no tensor has such a shape.
    """
    if len(shape) > _MOST_DIMENSIONS or not all(0 <= size <= 2**63 for size in shape):
        told = shortened(str(list(shape[: _MOST_DIMENSIONS + 1])))
        raise BadRequest(f"input {shortened(name)!r} is of shape {told}; {_MOST_DIMENSIONS} sizes from 0 on would do")
    return math.prod(shape)  # Python's numbers don't overflow


def check_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuse a tensor that lies elsewhere.

    Raises:
        NotOffered: its parameters name shared memory.
    """
    if "shared_memory_region" in parameters:
        raise NotOffered(f"input {name!r}: there is no shared memory here; its bytes in the body would work")


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Tensor:
    """A tensor of its bytes: little endian, row by row; ``BYTES`` with the length before each element.

    Raises:
        BadRequest: they are not as many as datatype and shape say.
    """
    count = count_of(name, shape)
    if datatype == BYTES:
        return Tensor(name, datatype, tuple(shape), _elements(name, count, data))
    dtype = _dtype(name, datatype)
    if len(data) != count * dtype.itemsize:
        raise BadRequest(
            f"input {name!r} has {len(data)} bytes; {datatype} of shape {list(shape)} takes {count * dtype.itemsize}"
        )
    values = np.frombuffer(data, dtype)
    return Tensor(name, datatype, tuple(shape), (_widened(values) if datatype == "BF16" else values).reshape(shape))


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor of its numbers, row by row.

    Raises:
        BadRequest: they are not as many as the shape says, or of another type, or beyond its range.
    """
    check_length(name, shape, len(values))
    dtype = _dtype(name, datatype)
    if datatype in ("FP16", "BF16"):
        raise BadRequest(f"input {name!r} is {datatype}, which is sent as bytes alone; FP32 would work")
    return Tensor(name, datatype, tuple(shape), _numbers(name, datatype, dtype, values).reshape(shape))


def check_length(name: str, shape: Sequence[int], length: int) -> None:
    """Refuse elements that are not as many as the shape says.

    Raises:
        BadRequest: saying how many it takes.
    """
    if length != (count := count_of(name, shape)):
        raise BadRequest(f"input {name!r} has {length} elements; its shape {list(shape)} takes {count}")


def to_bytes(tensor: Tensor) -> list[bytes | memoryview]:
    """The bytes of a tensor, in pieces, numbers without a copy."""
    if isinstance(tensor.values, np.ndarray):
        values = np.ascontiguousarray(tensor.values, DATATYPES[tensor.datatype])
        return [values.reshape(-1).view(np.uint8).data]
    return list(packed(tensor.values))


def _elements(name: str, count: int, data: memoryview) -> list[bytes]:
    if count == 1 and _is_bare_picture(data):
        return [bytes(data)]
    if count > MOST_ELEMENTS or count * PREFIX > len(data):
        raise BadRequest(f"input {name!r} has {len(data)} bytes, and {count} elements of BYTES, which don't fit")
    elements, at = [], 0
    for number in range(count):
        if at + PREFIX > len(data):
            raise BadRequest(f"input {name!r} ends before element {number} of {count}")
        length, at = length_at(data, at), at + PREFIX
        if length > len(data) - at:
            raise BadRequest(f"input {name!r}: element {number} is to have {length} bytes, but {len(data) - at} follow")
        elements.append(bytes(data[at : at + length]))
        at += length
    if at != len(data):
        raise BadRequest(f"input {name!r} has {len(data) - at} bytes beyond its {count} elements of BYTES")
    return elements


def _is_bare_picture(data: memoryview) -> bool:
    """Whether the length was left out before a picture, whose first four bytes are no length that fits."""
    return not is_one(data) and kind(bytes(data[:1024])) not in (None, "text")


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in DATATYPES:
        known = ", ".join((*DATATYPES, BYTES))
        raise BadRequest(f"input {name!r} is of datatype {shortened(datatype)!r}; there are {known}")
    return DATATYPES[datatype]


def _widened(bits: np.ndarray) -> np.ndarray:
    """Bfloat16 is the upper half of float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _numbers(name: str, datatype: str, dtype: np.dtype[Any], values: Sequence[Any]) -> np.ndarray:
    """Python's numbers as an array, where each of them fits."""
    wide = {"f": np.float64, "i": np.int64, "u": np.uint64, "b": np.bool_}[dtype.kind]
    try:
        array: np.ndarray = np.array(values, wide)
    except (OverflowError, ValueError, TypeError) as error:
        raise BadRequest(f"input {name!r} is no {datatype}: {error}") from None
    if dtype.kind in "iu" and array.size:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if array.min() < least or array.max() > most:
            raise BadRequest(f"input {name!r} has numbers beyond {datatype}, {least} to {most}")
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)
