"""The bodies that TorchServe takes: a picture as it is, a form, JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request

from gradcam_service.api.bodies import form_parts, in_turn, parsed
from gradcam_service.api.instances import parameters_of, rows_of
from gradcam_service.api.json_text import members_of
from gradcam_service.api.multipart import Part, begins_as_file
from gradcam_service.api.request_options import gathered
from gradcam_service.core.admission import Admission
from gradcam_service.errors import BadRequest, shortened

Outcome = TypeVar("Outcome")

_PICTURES = ("data", "body")
"""Parts that TorchServe's own handlers take for the picture, the first that there is."""

_OF_ALL = ("model", "output", "timeout_ms")
"""Options that a picture can't have for itself."""


class Sent(NamedTuple):
    """What a request holds.

    Attributes:
        rows: a picture each; see `gradcam_service.api.instances`.
        fields: options of all, as they were written.
        in_envelope: whether they came, and answers go, in TorchServe's envelope.
    """

    rows: Sequence[object]
    fields: Mapping[str, object]
    in_envelope: bool = False


async def read_body(request: Request, read: Callable[[Sent], Outcome], admission: Admission) -> Outcome:
    """What comes of what a request's body holds.

    Args:
        request: with a body of any kind.
        read: reads the pictures and options in it; long ones keep no other request waiting.
        admission: holds the body's bytes.

    Raises:
        BadRequest: it can't be read as what it says it is.
        ServiceError: as `gradcam_service.api.bodies.read_call`, and what ``read`` raises.
    """
    settings = request.app.state.settings
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        parts = await form_parts(request, _PICTURES, settings, admission)
        size = sum(len(value.data if isinstance(value, Part) else value) for _, value in parts)
        return await in_turn(lambda: read(_of_form(parts)), size, settings, admission)
    return await parsed(request, lambda body: read(_sent(body, media_type, settings.most_images)), settings, admission)


def _sent(body: bytes, media_type: str, most: int) -> Sent:
    if media_type == "application/json" or (not media_type and body.lstrip().startswith(b"{")):
        return _of_json(body, most)
    if media_type == "application/x-www-form-urlencoded" and not begins_as_file(body):  # as curl says of what it sends
        return _of_urlencoded(body)
    return Sent([body], {})


def _of_json(body: bytes, most: int) -> Sent:
    members = members_of(body, '{"data": "<base64>"}')
    if "instances" not in members:
        return Sent([members], {name: members.pop(name, None) for name in _OF_ALL})
    return Sent(rows_of(members, most)[0], parameters_of(members), in_envelope=True)


def _of_urlencoded(body: bytes) -> Sent:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise BadRequest(f"the form can't be read: {error}; multipart/form-data would work") from None
    # Base64 has a + that many don't escape, and that is a blank in a form.
    return _of_form([(name, text.replace(" ", "+") if name.lower() in _PICTURES else text) for name, text in pairs])


def _of_form(parts: Sequence[tuple[str, Part | str]]) -> Sent:
    """The pictures of a form: all parts named data, else body, else its files, else its only part; the rest is options.

    Raises:
        BadRequest: it has none, or files of several names.
    """
    usual = next((usual for usual in _PICTURES if any(name.lower() == usual for name, _ in parts)), None)
    names = {usual} if usual else {name for name, value in parts if isinstance(value, Part)}
    names = names or {name for name, _ in parts}
    if len(names) != 1:
        there = ", ".join(map(repr, map(shortened, sorted(names)))) or "none"
        hint = "; several files are pictures where each part is named data" if len(names) > 1 else ""
        raise BadRequest(f"the form has no picture in a part named data, and its other parts are {there}{hint}")
    taken = [name.lower() in names or name in names for name, _ in parts]
    rows = [_row(value) for (_, value), is_picture in zip(parts, taken, strict=True) if is_picture]
    texts = [
        (name, value)
        for (name, value), is_picture in zip(parts, taken, strict=True)
        if isinstance(value, str) and not is_picture
    ]
    return Sent(rows, gathered(texts))


def _row(value: Part | str) -> str | bytes:
    """A picture as an instance is: base64, or a file."""
    if isinstance(value, Part):
        return value.data.decode("latin-1") if value.encoded else value.data
    return value
