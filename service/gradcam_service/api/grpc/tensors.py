"""``ModelInfer`` as a request of REST with its tensors in binary, and the answer to that as gRPC's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from gradcam_service.api.grpc.protocol.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from gradcam_service.api.oip.faces import check_counts
from gradcam_service.api.oip.tensors import count_of
from gradcam_service.bytes_tensor import is_one, packed
from gradcam_service.errors import BadRequest, Internal, shortened

_CONTENTS = {
    "BOOL": ("bool_contents", "?"),
    "INT8": ("int_contents", "<i1"),
    "INT16": ("int_contents", "<i2"),
    "INT32": ("int_contents", "<i4"),
    "INT64": ("int64_contents", "<i8"),
    "UINT8": ("uint_contents", "<u1"),
    "UINT16": ("uint_contents", "<u2"),
    "UINT32": ("uint_contents", "<u4"),
    "UINT64": ("uint64_contents", "<u8"),
    "FP32": ("fp32_contents", "<f4"),
    "FP64": ("fp64_contents", "<f8"),
    "BYTES": ("bytes_contents", ""),
}
"""Datatype → the member of ``InferTensorContents`` that holds it, and its elements as they lie in binary."""
_MOST_PARAMETERS = 100
"""Of a call, and of each of its tensors."""
_PIECE = 2**16
"""Numbers that are converted at once: the interpreter's lock is held meanwhile."""
_DATA = frozenset({"binary_data", "binary_data_size"})
"""Parameters that say where REST has a tensor's data, which gRPC says otherwise."""


def request_of(call: ModelInferRequest, timeout: float | None) -> list[bytes]:
    """The body of the request of REST that means the same: its JSON, then each input's bytes.

    Args:
        call: of gRPC.
        timeout: seconds until the caller gives up; None where it doesn't.

    Raises:
        BadRequest: contents are given twice, or not at all, or are no elements of their datatype, or there is more of
            anything than is accepted.
    """
    raw = call.raw_input_contents
    _check_size(call)
    if raw and len(raw) != len(call.inputs):
        raise BadRequest(f"{len(raw)} raw_input_contents for {len(call.inputs)} inputs; give all inputs so, or none")
    data = [_as_sent(tensor, raw[place]) if raw else _packed(tensor) for place, tensor in enumerate(call.inputs)]
    parameters = _read(call.parameters)
    if timeout is not None:
        asked = parameters.get("timeout")
        left = max(1, int(timeout * 1e6))
        parameters["timeout"] = min(left, asked) if isinstance(asked, int) and asked > 0 else left
    head = {
        "id": call.id,
        "parameters": parameters | {"binary_data_output": True},
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": _read(tensor.parameters) | {"binary_data_size": len(own)},
            }
            for tensor, own in zip(call.inputs, data, strict=True)
        ],
    }
    if not call.id:
        del head["id"]
    if call.outputs:
        head["outputs"] = [{"name": output.name, "parameters": _read(output.parameters)} for output in call.outputs]
    return [msgspec.json.encode(head), *data]


def _check_size(call: ModelInferRequest) -> None:
    """Refuse what has too many parts before any of them is looked at."""
    check_counts(len(call.inputs), len(call.outputs))
    for one in (call, *call.inputs, *call.outputs):
        if len(one.parameters) > _MOST_PARAMETERS:
            raise BadRequest(f"{len(one.parameters)} parameters; at most {_MOST_PARAMETERS} are accepted")
    for tensor in call.inputs:
        count_of(tensor.name, tensor.shape)


def response_of(body: bytes, head_length: int) -> ModelInferResponse:
    """The answer of gRPC that means the same as one of REST, every output in ``raw_output_contents``.

    Triton's client reads numbers nowhere else, and KServe's reads them there, too.

    Args:
        body: JSON, then each output's bytes.
        head_length: bytes of the JSON.

    Raises:
        Internal: an output is not in binary.
    """
    head = msgspec.json.decode(body[:head_length])
    answer = ModelInferResponse(
        model_name=head["model_name"], model_version=head.get("model_version") or "", id=head.get("id") or ""
    )
    _write(head.get("parameters") or {}, answer.parameters)
    at = head_length
    for output in head["outputs"]:
        parameters = output.get("parameters") or {}
        if "binary_data_size" not in parameters:
            raise Internal(f"output {output['name']} has no bytes")
        size = parameters["binary_data_size"]
        written = answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        _write(parameters, written.parameters)
        answer.raw_output_contents.append(body[at : at + size])
        at += size
    return answer


def _as_sent(tensor: ModelInferRequest.InferInputTensor, raw: bytes) -> bytes:
    """The bytes of an input; one picture that comes without its length, as some clients send it, gets that."""
    if tensor.HasField("contents"):
        raise BadRequest(f"input {tensor.name} has both contents and raw_input_contents; give it once")
    if tensor.datatype != "BYTES" or set(tensor.shape) - {1}:
        return raw
    return raw if is_one(raw) else b"".join(packed([raw]))


def _packed(tensor: ModelInferRequest.InferInputTensor) -> bytes:
    """The contents of an input as they lie in binary."""
    if tensor.datatype not in _CONTENTS:
        known = ", ".join(_CONTENTS)
        raise BadRequest(f"input {tensor.name}: contents can't be {tensor.datatype}, but {known}; others go raw")
    member, dtype = _CONTENTS[tensor.datatype]
    values = getattr(tensor.contents, member)
    if not dtype:
        return b"".join(packed(values))
    if len(values) != (count := count_of(tensor.name, tensor.shape)):
        raise BadRequest(f"input {tensor.name} has {len(values)} elements; its shape takes {count}")
    return b"".join(_numbers(tensor, values[start : start + _PIECE], dtype) for start in range(0, count, _PIECE))


def _numbers(tensor: ModelInferRequest.InferInputTensor, values: Sequence[float], dtype: str) -> bytes:
    given = np.array(values)
    sent = given.astype(dtype)
    if given.dtype.kind in "iu" and (sent != given).any():
        raise BadRequest(f"input {tensor.name}: contents are beyond {tensor.datatype}")
    return sent.tobytes()


def _read(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items() if name not in _DATA}
    read = {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice}
    for name, value in read.items():
        if isinstance(value, float) and not math.isfinite(value):  # which JSON has no words for
            raise BadRequest(f"parameter {shortened(name)!r} is {value}; a finite number would work")
    return read


def _write(given: Mapping[str, object], parameters: Mapping[str, InferParameter]) -> None:
    for name, value in given.items():
        if name in _DATA:
            continue
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        elif isinstance(value, float):
            parameters[name].double_param = value
        else:
            parameters[name].string_param = str(value)
