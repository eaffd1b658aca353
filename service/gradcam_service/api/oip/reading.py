"""A request's tensors and parameters as the domain takes them: pictures, targets and options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from gradcam_service.api.base64_text import decode_base64
from gradcam_service.api.oip.faces import EXPLANATIONS, TARGET, Faced
from gradcam_service.api.oip.messages import InferRequest, Parameters
from gradcam_service.api.oip.tensors import BYTES, Content, Tensor
from gradcam_service.api.request_options import tolerated
from gradcam_service.core.options import (
    Call,
    ExplainOptions,
    Image,
    PredictOptions,
    check_image_count,
    check_target_count,
)
from gradcam_service.errors import BadOption, BadRequest, shortened
from gradcam_service.images.signatures import kind
from gradcam_service.settings import Settings

_ELSEWHERE = {
    "model": "the model is named by the path",
    "output": "what is wanted is named by outputs",
    "boxes": "boxes come with the service's own protocol alone",
    "quality": "a map's quality comes with the service's own protocol alone",
}
"""Options of the service's own protocol that are no parameters here, and why."""
_TIMEOUT = "timeout"
_LONGEST_MS = 600_000


def call_of(
    request: InferRequest, faced: Faced, outputs: Sequence[str], settings: Settings
) -> Call[PredictOptions] | Call[ExplainOptions]:
    """What a request asks of the domain.

    Args:
        request: has the pictures, targets and options.
        faced: what it is to.
        outputs: names of what it is answered with.
        settings: how many images and targets it may have.

    Raises:
        BadRequest: its inputs are not as they should be.
        BadOption: a parameter is out of range, or nearly an option's name.
        TooLarge: it has more images than are accepted.
        TooManyTargets: it has more of these.
    """
    pictures, targets = _inputs(request.inputs)
    images = _images(pictures, settings.most_images)
    given, most = _options(request.parameters) | {"model": faced.reference}, settings.max_targets
    if not any(name in EXPLANATIONS for name in outputs):
        if targets is not None:
            raise BadRequest(f"input {TARGET!r} is what is explained; ask for an output of {', '.join(EXPLANATIONS)}")
        return Call(images, tolerated(PredictOptions, given, most_targets=most))
    drawn = [name for name in ("heatmap", "overlay", "map") if name in outputs] or ["map"]
    given |= {"output": drawn} | _target(request.parameters, faced, most)
    options = tolerated(ExplainOptions, given, most_targets=most)
    if targets is None:
        return Call(images, options)
    own = [options.model_copy(update={"target": row}) for row in _rows(targets, len(images), most)]
    return Call(images, options, own)


def _inputs(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """The tensor of pictures, whatever its name is, and the one of targets, if there is one."""
    pictures = [tensor for tensor in inputs if tensor.name != TARGET]
    targets = [tensor for tensor in inputs if tensor.name == TARGET]
    if len(pictures) != 1 or len(targets) > 1:
        raise BadRequest(f"{len(inputs)} inputs are given; one of pictures and at most one {TARGET!r} would work")
    return pictures[0], targets[0] if targets else None


def _images(tensor: Tensor, most: int) -> list[Image]:
    """Each picture of a tensor: files of ``BYTES`` [N] or [N, frames], or numbers [N, H, W] and the like."""
    shape, values = tensor.shape, tensor.values
    fits = len(shape) in ((1, 2) if tensor.datatype == BYTES else (3, 4, 5))
    if not fits or tensor.datatype == "BOOL":
        raise BadRequest(
            f"input {tensor.name!r} is {tensor.datatype} {list(shape)}; BYTES [N] or [N, 1] of pictures, [N, k] of k "
            "frames each, UINT8 [N, H, W, 3] or [N, 3, H, W] of pixels, or FP32 [N, 3, h, w] of the model's own input "
            "would work"
        )
    if not math.prod(shape):
        raise BadRequest(f"input {tensor.name!r} of shape {list(shape)} holds no picture")
    if isinstance(values, np.ndarray):
        check_image_count(shape[0], most)
        return list(values)
    check_image_count(len(values), most)
    files = [_file(each, f"element {number} of {tensor.name!r}", tensor.content) for number, each in enumerate(values)]
    if (frames := len(files) // shape[0]) == 1:
        return [*files]
    return [tuple(files[first : first + frames]) for first in range(0, len(files), frames)]


def _file(element: bytes, where: str, content: Content) -> bytes:
    """A picture's file, which is often sent as base64 where bytes could be."""
    if not element:
        raise BadRequest(f"{where} is empty")
    if kind(element) != "text":
        return element
    try:
        return decode_base64(element.decode(errors="replace"), where)
    except BadRequest:
        if content == "str":
            raise
        return element  # which is no picture, as will be said of these bytes


def _rows(tensor: Tensor, count: int, most: int) -> list[list[Any]]:
    """The targets of each image, of a tensor [N] or [N, k] of labels or indices."""
    shape = tensor.shape
    fits = len(shape) in (1, 2) and shape[0] == count and math.prod(shape) > 0
    integers = isinstance(tensor.values, np.ndarray) and tensor.values.dtype.kind in "iu"
    if not fits or not (integers or tensor.datatype == BYTES):
        raise BadRequest(
            f"input {TARGET!r} is {tensor.datatype} {list(shape)}; BYTES (labels) or INT64 (indices), [{count}] or "
            f"[{count}, k], would work: as many for each of the {count} images"
        )
    check_target_count(math.prod(shape[1:]), most)
    if isinstance(tensor.values, np.ndarray):
        return [[int(index) for index in row] for row in tensor.values.reshape(count, -1)]
    labels = [element.decode(errors="replace") for element in tensor.values]
    each = len(labels) // count
    return [labels[start : start + each] for start in range(0, len(labels), each)]


def _target(parameters: Parameters, faced: Faced, most: int) -> dict[str, Any]:
    """The option `target`: an index, a label, labels with commas between, or JSON."""
    written = parameters.get(TARGET)
    labels = faced.model.card.labels if faced.model.card else []
    if not isinstance(written, str) or written in labels or written.lstrip().startswith("{"):
        return {TARGET: written}
    if not written.lstrip().startswith("["):
        check_target_count(written.count(",") + 1, most)
        return {TARGET: [part.strip() for part in written.split(",")]}
    try:
        return {TARGET: msgspec.json.decode(written)}
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadOption(f"parameter 'target' is not the JSON that it begins like: {error}") from None


def _options(parameters: Parameters) -> dict[str, Any]:
    """A request's parameters, among them options, with the protocol's own as such."""
    for name, why in _ELSEWHERE.items():
        if name in parameters:
            raise BadOption(f"{name!r} is no parameter: {why}")
    own = {name: value for name, value in parameters.items() if name != _TIMEOUT}
    return _deadline(parameters.get(_TIMEOUT)) | own


def _deadline(timeout: Any) -> dict[str, Any]:  # noqa: ANN401  whatever was written
    """The protocol's ``timeout``, in microseconds, as an option; 0 is none."""
    try:
        ms = math.ceil(int(timeout or 0) / 1000)
    except (TypeError, ValueError, OverflowError):
        raise BadOption(f"parameter 'timeout': {shortened(str(timeout))} is no number of microseconds") from None
    return {"timeout_ms": min(ms, _LONGEST_MS)} if ms > 0 else {}
