"""Messages of their bytes, bounded before they are parsed: protobuf makes an object of every two bytes if it must."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from gradcam_service.errors import BadRequest

Parsed = TypeVar("Parsed", bound=Message)

_MOST_FIELDS = 2**14
"""Of a message with all that are in it; numbers that are packed, as every client's are, are one."""
_MOST_PACKED = 2**22
"""Bytes of integers that are packed into one field: each is parsed by itself, while nothing else of Python runs."""
_LONGEST_TEXT = 2**16
"""Bytes, as of a head of HTTP."""
_INTEGERS = frozenset(
    getattr(FieldDescriptor, f"CPPTYPE_{name}") for name in ("BOOL", "INT32", "INT64", "UINT32", "UINT64")
)
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUPS_END, _FIXED32 = range(6)
"""Wire types, https://protobuf.dev/programming-guides/encoding/#structure."""


def parse(takes: type[Parsed], data: object) -> Parsed:
    """The message that bytes are; long ones want to be parsed in a thread.

    Args:
        takes: the message's class.
        data: what `grpc.aio` has read, which is no bytes where the caller ended its call instead.

    Raises:
        BadRequest: they are none, or of more fields than anything here takes.
    """
    if not isinstance(data, bytes):
        raise BadRequest("the call ended without a message")
    try:
        for count, _ in enumerate(_fields(memoryview(data), takes.DESCRIPTOR), 1):
            if count > _MOST_FIELDS:
                raise BadRequest(f"the message has more than {_MOST_FIELDS} fields, the most that are accepted")
        message: Parsed = takes.FromString(data)
        return message
    except (DecodeError, IndexError) as error:
        raise BadRequest(f"the message is no {takes.DESCRIPTOR.name}: {error}") from None


def _fields(data: memoryview, of: Descriptor) -> Iterator[int]:
    """The number of each field of a message, and of each in those; as far as they make sense.

    Raises:
        IndexError: the bytes end in the midst of one, or it is none.
        BadRequest: one is longer than is accepted.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        yield number
        if wire == _BYTES:
            size, at = _varint(data, at)
            field = of.fields_by_number.get(number)
            if field is not None:
                _check_size(field, size)
            if field is not None and field.type == FieldDescriptor.TYPE_MESSAGE:
                yield from _fields(data[at : at + size], field.message_type)
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        elif wire not in (_GROUP, _GROUPS_END):  # between which there are fields, too
            raise IndexError(f"there is no wire type {wire}")


def _check_size(field: FieldDescriptor, size: int) -> None:
    """Refuse text and integers that are too long; tensors' bytes may be as long as a message."""
    if field.cpp_type in _INTEGERS and size > _MOST_PACKED:
        raise BadRequest(f"{field.name} has {size} bytes, {_MOST_PACKED} at most; raw_input_contents takes more")
    if field.type == FieldDescriptor.TYPE_STRING and size > _LONGEST_TEXT:
        raise BadRequest(f"{field.name} has {size} bytes; at most {_LONGEST_TEXT} are accepted")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that is written there, and where it ends."""
    value = shift = 0
    while (byte := data[at]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if shift > 63:
            raise IndexError("a number of more than ten bytes")
    return value | byte << shift, at + 1
