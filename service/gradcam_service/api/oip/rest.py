"""Bodies of this protocol over REST: JSON, and the binary tensor extension that puts tensors' bytes behind it.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, reduce
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np

from gradcam_service.api.base64_text import decode_base64
from gradcam_service.api.json_text import check_values
from gradcam_service.api.oip.faces import PREPARED, Faced, check_counts
from gradcam_service.api.oip.messages import InferRequest, InferResponse, Wanted
from gradcam_service.api.oip.tensors import (
    BYTES,
    DATATYPES,
    MOST_ELEMENTS,
    Content,
    Tensor,
    check_length,
    check_parameters,
    count_of,
    from_bytes,
    from_values,
    to_bytes,
)
from gradcam_service.errors import BadRequest, ModelLoading, shortened

Piece: TypeAlias = bytes | memoryview

_BINARY_SIZE = "binary_data_size"
_TEXT_PER_BYTE = 5
"""Of a number of float32: its digits as float64 has them."""
_PIECE = 2**14
"""Numbers that are written as text at a time."""
_OPENING = re.compile(rb"[\s\[]*")


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] | None = None
    id: str | None = None


class _Encoded(msgspec.Struct):
    b64: str


_BODY = msgspec.json.Decoder(_Body)


def read(body: bytes, header_length: int | None) -> InferRequest:
    """The request that a body is.

    Args:
        body: the whole of it, not compressed.
        header_length: how many of its bytes are JSON; None for all.

    Raises:
        BadRequest: it is not as it should be.
        TooLarge: it holds millions of values in JSON.
        NotOffered: it names shared memory.
    """
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise BadRequest(f"Inference-Header-Content-Length is {length}, but the body has {len(body)} bytes")
    text = body[:length] if length < len(body) else body
    check_values(text)
    try:
        given = _BODY.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no inference request in JSON: {error}") from None
    check_counts(len(given.inputs), len(given.outputs or ()))
    rest = memoryview(body)[length:]
    inputs = []
    for one in given.inputs:
        tensor, rest = _read(one, rest)
        inputs.append(tensor)
    if rest:
        raise BadRequest(f"{len(rest)} bytes follow what the inputs' {_BINARY_SIZE} say")
    wanted = [Wanted(one.name, one.parameters or {}) for one in given.outputs or ()]
    return InferRequest(inputs, wanted, given.parameters or {}, given.id)


def read_raw(body: bytes, faced: Faced) -> InferRequest:
    """A raw binary request: the body is the bytes of the one input, without JSON, and answered in bytes alone.

    Raises:
        BadRequest: they are not as many as the input has.
        ModelLoading: how many it has isn't known, as the model has never been loaded.
    """
    slot = faced.face.input(faced.model.card)
    data, parameters = memoryview(body), {"binary_data_output": True}
    if faced.face is not PREPARED:
        return InferRequest([Tensor(slot.name, BYTES, (1,), [body])], parameters=parameters)
    if faced.model.card is None:
        raise ModelLoading(f"model {faced.model.key} has not been loaded yet, so that its input's size isn't known")
    each = math.prod(slot.shape) * DATATYPES[slot.datatype].itemsize
    if len(body) % each:
        raise BadRequest(f"the body has {len(body)} bytes, but a tensor {list(slot.shape)} of {slot.datatype} {each}")
    tensor = from_bytes(slot.name, slot.datatype, (len(body) // each, *slot.shape), data)
    return InferRequest([tensor], parameters=parameters)


class Written(NamedTuple):
    """An answer in pieces.

    Attributes:
        pieces: of its bytes.
        size: how many bytes; of one that is JSON alone, about.
        header_length: how many of them are JSON, where tensors' bytes follow; None where none do.
    """

    pieces: Iterable[Piece]
    size: int
    header_length: int | None


def write(response: InferResponse, request: InferRequest) -> Written:
    """An answer, its outputs in bytes or in JSON as the request wants each."""
    outputs, binary = response.outputs, _binary(response, request)
    sizes = [sum(map(len, to_bytes(tensor))) for tensor in outputs]
    described = [
        iter([b',"parameters":{"binary_data_size":%d}' % size]) if is_binary else _data(tensor)
        for tensor, size, is_binary in zip(outputs, sizes, binary, strict=True)
    ]
    if not any(binary):
        return Written(_json(response, described), _TEXT_PER_BYTE * sum(sizes), None)
    head = b"".join(_json(response, described))
    behind = [tensor for tensor, is_binary in zip(outputs, binary, strict=True) if is_binary]
    size = len(head) + sum(size for size, is_binary in zip(sizes, binary, strict=True) if is_binary)
    return Written(chain([head], chain.from_iterable(map(to_bytes, behind))), size, len(head))


def _read(given: _Input, rest: memoryview) -> tuple[Tensor, memoryview]:
    """An input, whose bytes are the first of the rest or whose data are JSON, and what remains of the rest."""
    parameters = given.parameters or {}
    check_parameters(given.name, parameters)
    size = parameters.get(_BINARY_SIZE)
    if (size is None) == (not given.data):
        raise BadRequest(f"input {given.name!r} needs either data or the parameter {_BINARY_SIZE}")
    if size is None:
        return _of_json(given), rest
    if type(size) is not int or not 0 <= size <= len(rest):
        raise BadRequest(
            f"input {given.name!r}: {_BINARY_SIZE} is {shortened(str(size))}, but {len(rest)} bytes are left"
        )
    return from_bytes(given.name, given.datatype, given.shape, rest[:size]), rest[size:]


def _of_json(given: _Input) -> Tensor:
    """An input of its data in JSON, flat or nested like its shape."""
    count = count_of(given.name, given.shape)
    if given.datatype == BYTES and count > MOST_ELEMENTS:
        raise BadRequest(f"input {given.name!r} has {count} elements of BYTES; at most {MOST_ELEMENTS} are read")
    opening = _OPENING.match(given.data)
    depth = opening[0].count(b"[") if opening else 0
    if depth not in (1, len(given.shape)):
        raise BadRequest(
            f"input {given.name!r} has data nested {depth} deep; 1 or, like its shape, {len(given.shape)} would work"
        )
    kind = "BYTES" if given.datatype == BYTES else DATATYPES[given.datatype].kind if given.datatype in DATATYPES else ""
    try:
        values = _decoder(kind, depth).decode(given.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"input {given.name!r}: its data are no {shortened(given.datatype)}: {error}") from None
    flat: Sequence[Any] = list(reduce(lambda nested, _: chain.from_iterable(nested), range(depth - 1), values))
    if kind != "BYTES":
        return from_values(given.name, given.datatype, given.shape, flat)
    check_length(given.name, given.shape, len(flat))
    elements = [_element(element, given.name) for element in flat]
    content: Content = "str" if any(isinstance(element, str) for element in flat) else ""
    return Tensor(given.name, BYTES, tuple(given.shape), elements, content)


@lru_cache(64)
def _decoder(kind: str, depth: int) -> msgspec.json.Decoder[Any]:
    """Decodes lists in lists, so many deep, of what is of a kind of NumPy's, of BYTES or of anything."""
    of: Any = {"f": float, "i": int, "u": int, "b": bool, "BYTES": str | _Encoded}.get(kind, Any)
    for _ in range(depth):
        of = list[of]
    return msgspec.json.Decoder(of)


def _element(element: str | _Encoded, name: str) -> bytes:
    return decode_base64(element.b64, f"input {name!r}") if isinstance(element, _Encoded) else element.encode()


def _binary(response: InferResponse, request: InferRequest) -> list[bool]:
    """Which outputs are answered in bytes: as each says for itself, else as the request says for all."""
    own = {wanted.name: wanted.parameters.get("binary_data") for wanted in request.outputs}
    of_all = bool(request.parameters.get("binary_data_output"))
    return [of_all if (said := own.get(tensor.name)) is None else bool(said) for tensor in response.outputs]


def _json(response: InferResponse, described: Sequence[Iterator[bytes]]) -> Iterator[bytes]:
    """The answer, each of its outputs with its members but for name, datatype and shape as they are described."""
    said = {"model_name": response.model, "model_version": response.version, "id": response.id}
    if response.parameters:
        said["parameters"] = response.parameters  # type: ignore[assignment]
    yield msgspec.json.encode(said)[:-1] + b',"outputs":['
    for number, (tensor, members) in enumerate(zip(response.outputs, described, strict=True)):
        head = msgspec.json.encode({"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape})
        yield b"," * (number > 0) + head[:-1]
        yield from members
        yield b"}"
    yield b"]}"


def _data(tensor: Tensor) -> Iterator[bytes]:
    """The members of an output that is written in JSON, a piece at a time."""
    yield b',"parameters":{"content_type":%b},"data":[' % msgspec.json.encode(tensor.content)
    if isinstance(tensor.values, np.ndarray):
        flat = tensor.values.reshape(-1)
        for start in range(0, len(flat), _PIECE):
            yield b"," * (start > 0) + msgspec.json.encode(flat[start : start + _PIECE].tolist())[1:-1]
    else:
        for number, element in enumerate(tensor.values):
            text = base64.b64encode(element).decode() if tensor.content == "base64" else element.decode()
            yield b"," * (number > 0) + msgspec.json.encode(text)
    yield b"]"
