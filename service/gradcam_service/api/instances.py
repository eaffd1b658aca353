"""Instances, as KServe, TensorFlow Serving, Vertex AI and TorchServe's envelope have them: pictures, however wrapped.

The name of the member that holds a picture is each model's own affair there, and differs everywhere; what it is wrapped
in is what tells it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic

import msgspec
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from gradcam_service.api.base64_text import decode_base64, frames_of
from gradcam_service.api.inference import answers
from gradcam_service.api.request_options import replaced
from gradcam_service.core.admission import Admission
from gradcam_service.core.options import Call, ExplainOptions, Image, Options, check_image_count
from gradcam_service.core.results import Answers
from gradcam_service.errors import BadOption, BadRequest, ServiceError, shortened

_FRAMES = "frames"
_COMMON = (_FRAMES, "image", "image_bytes", "data", "body", "bytes", "bytes_inputs")
"""What pictures are often called; asked where an instance has several members that may be one."""
_MOST_MEMBERS = 100
"""Of an instance: more are no options."""
_KEY = "key"
_OF_ALL = ("model", "timeout_ms")
"""Options that a picture can't have for itself."""
_DEEPEST = 4
"""A batch of one picture of rows of pixels of colours."""

_FORMS = (
    '{"b64": "<base64>"}, {"image": {"b64": "<base64>"}}, {"data": "<base64>"}, a string of base64 or a data: URI, '
    '{"frames": [{"b64": …}, …]} of several frames, or '
    "nested integers from 0 to 255, (H, W, 3), (3, H, W) or (H, W)"
)


@dataclass(frozen=True, eq=False)
class Instance(Generic[Options]):
    """One picture of a request.

    Attributes:
        image: its file, or numbers in its place.
        options: its own, or those of the whole request.
        key: JSON that its answer is to be given; None for none.
        error: what is wrong with it; it has no image then.
    """

    image: Image
    options: Options
    key: bytes | None = None
    error: ServiceError | None = None


async def answers_each(
    request: Request,
    instances: Sequence[Instance[Options]],
    options: Options,
    admission: Admission,
    seconds_reading: float,
) -> Answers:
    """The answer or error of each instance, in their order.

    Args:
        request: that they are of.
        instances: at least one.
        options: of the whole request.
        admission: holds the request's share.
        seconds_reading: that it took to read them.

    Raises:
        ServiceError: what is wrong with the whole request, or with the first instance if none could be answered.
    """
    sound = [instance for instance in instances if instance.error is None]
    if not sound:
        raise next(instance.error for instance in instances if instance.error)
    own = [instance.options for instance in sound]
    alike = all(each is options for each in own)
    call: Call[Any] = Call([instance.image for instance in sound], options, None if alike else own)
    answered = await answers(request, call, admission, seconds_reading)
    results = iter(answered.results)
    return replace(answered, results=[instance.error or next(results) for instance in instances])


def rows_of(members: Mapping[str, object], most: int) -> tuple[list[object], bool]:
    """The instances of a body, and whether they came as columns: TensorFlow Serving's ``inputs``, an object.

    Raises:
        BadRequest: there are none.
        TooLarge: there are more than ``most``.
    """
    columns = members.get("inputs") if members.get("instances") is None else None
    written = members.get("instances", columns)
    if isinstance(columns, dict):
        return _transposed(columns, most), True
    if not isinstance(written, list) or not written:
        raise _none()
    check_image_count(len(written), most, "instances")
    return written, False


def parameters_of(members: Mapping[str, object]) -> Mapping[str, object]:
    """The options of all instances that a body has.

    Raises:
        BadRequest: they are no object.
    """
    parameters = members.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest('"parameters" must be an object of options')
    return parameters


def _transposed(columns: Mapping[str, object], most: int) -> list[object]:
    if len(columns) > _MOST_MEMBERS:
        raise BadRequest(f'"inputs" has {len(columns)} columns; pictures and options would work')
    lists = {name: column if isinstance(column, list) else [column] for name, column in columns.items()}
    lengths = set(map(len, lists.values()))
    if len(lengths) > 1:
        raise BadRequest('the columns of "inputs" are of different lengths; equal ones would work')
    if not any(lengths):
        raise _none()
    check_image_count(max(lengths), most, "instances")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _none() -> BadRequest:
    return BadRequest(f'the body must have "instances", a list of pictures, each as {_FORMS}')


def read(row: object, place: str, options: Options, most_targets: int) -> Instance[Options]:
    """The instance that a row is.

    Args:
        row: as it was written.
        place: of it in the body, to be named by what is wrong.
        options: those of the whole request; its own count more.
        most_targets: that it may have.
    """
    key = None
    try:
        key = _key(row)
        own = _own(row, options, most_targets) if isinstance(row, dict) else options
        return Instance(picture(row, place), own, key)
    except ServiceError as error:
        return Instance(b"", options, key, error)


def _own(members: Mapping[str, object], options: Options, most_targets: int) -> Options:
    """The options of an instance.

    Raises:
        BadOption, TooManyTargets: one is not as it should be, or of the whole request alone.
    """
    if len(members) > _MOST_MEMBERS:
        raise BadRequest(f"an instance has {len(members)} members; its picture and its options would work, as {_FORMS}")
    for name in _OF_ALL:
        if members.get(name) not in (None, getattr(options, name)):
            raise BadOption(f"{name} is an option of the whole request, not of one of its pictures")
    return replaced(options, {name: value for name, value in members.items() if name not in _OF_ALL}, most_targets)


def _key(row: object) -> bytes | None:
    key = row.get(_KEY) if isinstance(row, dict) else None
    try:
        return None if key is None else msgspec.json.encode(key)
    except RecursionError:
        raise BadRequest(f"{_KEY!r} is nested too deep; a string or a number would work") from None


def picture(row: object, place: str) -> Image:
    """The picture in an instance.

    Raises:
        BadRequest: there is none, or it isn't written as it should be.
    """
    if isinstance(row, dict):
        name, row = _wrapped(row, place)
        place = f"{place}[{name!r}]"
        if name == _FRAMES and isinstance(row, list):
            return frames_of(row, place)
    if isinstance(row, list):
        return _numbers(row, place)
    image = row if isinstance(row, bytes) else decode_base64(row, place)
    if not image:
        raise BadRequest(f"{place} is empty")
    return image


def _wrapped(members: Mapping[str, object], place: str) -> tuple[str, object]:
    """The member of an instance that is its picture."""
    if "b64" in members:
        return "b64", members["b64"]
    own = {name: value for name, value in members.items() if name not in ExplainOptions.model_fields and name != _KEY}
    coded = {name: value["b64"] for name, value in own.items() if isinstance(value, dict) and "b64" in value}
    found: dict[str, object] = {**coded} or {name: own[name] for name in own if isinstance(own[name], str | list)}
    if len(found) > 1:
        found = {name: value for name, value in found.items() if name in _COMMON} or found
    if len(found) != 1:
        several = f"has several members that may be its picture, {', '.join(map(repr, map(shortened, found)))}"
        raise BadRequest(f"{place} {several if found else 'has no picture'}; one would work, as {_FORMS}")
    return next(iter(found.items()))


_SOME = 2**14
"""Numbers that are converted at once, before other threads get their turn."""


def _numbers(written: Sequence[Any], place: str) -> NDArray[Any]:
    """A picture's integers (H, W), (H, W, C) or (C, H, W), or floats (C, h, w), prepared for a model already."""
    depth = _depth(written)
    if depth == _DEEPEST and len(written) == 1:
        return _numbers(written[0], place)
    if depth not in (2, 3):
        raise BadRequest(f"{place} is a list of depth {depth}; it may be {_FORMS}")
    flat, shape = written, [len(written)]
    try:
        for _ in range(1, depth):
            shape.append(len(flat[0]))
            flat = _joined(flat, shape[-1])
        values = _converted(flat).reshape(shape)
    except (TypeError, msgspec.ValidationError):
        raise BadRequest(f"{place} is a list of something else than numbers; it may be {_FORMS}") from None
    except (ValueError, OverflowError):
        raise BadRequest(f"{place} is a list of rows of different lengths, or of numbers beyond all others") from None
    if values.size == 0:
        raise BadRequest(f"{place} is empty")
    return _channels_first(values) if values.dtype == np.float32 else _counts(values, place)


def _joined(rows: Sequence[Any], length: int) -> list[Any]:
    """The members of rows, one behind the other.

    Raises:
        TypeError: a row is no list.
        ValueError: it is of another length.
    """
    for row in rows:
        if not isinstance(row, list):
            raise TypeError
        if len(row) != length:
            raise ValueError
    return list(chain.from_iterable(rows))


def _converted(numbers: Sequence[Any]) -> NDArray[Any]:
    """Numbers as an array: of int64 where all of them are whole, else of float32.

    Raises:
        msgspec.ValidationError: one is something else.
        OverflowError: one is beyond int64.
    """
    some = [numbers[start : start + _SOME] for start in range(0, len(numbers), _SOME)] or [[]]
    try:
        return np.concatenate([np.array(msgspec.convert(each, list[int]), np.int64) for each in some])
    except msgspec.ValidationError:
        return np.concatenate([np.array(msgspec.convert(each, list[float]), np.float32) for each in some])


def _channels_first(values: NDArray[np.float32]) -> NDArray[np.float32]:
    channels = (1, 3)
    last = values.ndim == 3 and values.shape[2] in channels and values.shape[0] not in channels
    return values.transpose(2, 0, 1) if last else values


def _counts(values: NDArray[np.int64], place: str) -> NDArray[Any]:
    low, high = int(values.min()), int(values.max())
    if not 0 <= low <= high <= np.iinfo(np.uint16).max:
        raise BadRequest(f"{place} is a list of numbers from {low} to {high}; 0 to 255 would work")
    return values.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


def _depth(written: object) -> int:
    """How many lists are in each other, as the first of each tells; of any that are too many, one too many."""
    depth = 0
    while isinstance(written, list) and depth <= _DEEPEST:
        depth, written = depth + 1, written[0] if written else None
    return depth
