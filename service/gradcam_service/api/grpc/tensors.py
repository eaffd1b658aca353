"""``ModelInfer`` as the request of the protocol that it carries, and the answer to that as gRPC's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gradcam_service.api.grpc.protocol.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from gradcam_service.api.oip.faces import check_counts
from gradcam_service.api.oip.messages import Exchange, InferRequest, InferResponse, Parameters, Wanted
from gradcam_service.api.oip.tensors import Tensor, check_parameters, count_of, from_bytes, to_bytes
from gradcam_service.bytes_tensor import is_one, packed
from gradcam_service.errors import BadRequest, shortened

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


def exchange_of(call: ModelInferRequest, timeout: float | None) -> Exchange:
    """The request that a call is, to be read where it is answered.

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
    inputs = [
        partial(_tensor, one.name, one.datatype, list(one.shape), _read(one.parameters), memoryview(own))
        for one, own in zip(call.inputs, data, strict=True)
    ]
    wanted = [Wanted(output.name, _read(output.parameters)) for output in call.outputs]
    own_id = call.id or None  # and not the call, which holds everything once more

    def read() -> InferRequest:
        return InferRequest([tensor() for tensor in inputs], wanted, parameters, own_id)

    return Exchange(read, sum(map(len, data)))


def _tensor(name: str, datatype: str, shape: Sequence[int], parameters: Parameters, data: memoryview) -> Tensor:
    check_parameters(name, parameters)
    return from_bytes(name, datatype, shape, data)


def _check_size(call: ModelInferRequest) -> None:
    """Refuse what has too many parts before any of them is looked at."""
    check_counts(len(call.inputs), len(call.outputs))
    for one in (call, *call.inputs, *call.outputs):
        if len(one.parameters) > _MOST_PARAMETERS:
            raise BadRequest(f"{len(one.parameters)} parameters; at most {_MOST_PARAMETERS} are accepted")
    for tensor in call.inputs:
        count_of(tensor.name, tensor.shape)


def response_of(response: InferResponse) -> ModelInferResponse:
    """An answer as gRPC's, every output in ``raw_output_contents``.

    Triton's client reads numbers nowhere else, and KServe's reads them there, too.
    """
    answer = ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    _write(response.parameters, answer.parameters)
    for output in response.outputs:
        answer.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        answer.raw_output_contents.append(b"".join(to_bytes(output)))
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
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in parameters.items()}
    read = {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice}
    for name, value in read.items():
        if isinstance(value, float) and not math.isfinite(value):  # which REST has no words for
            raise BadRequest(f"parameter {shortened(name)!r} is {value}; a finite number would work")
    return read


def _write(given: Mapping[str, object], parameters: Mapping[str, InferParameter]) -> None:
    for name, value in given.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        elif isinstance(value, float):
            parameters[name].double_param = value
        else:
            parameters[name].string_param = str(value)
