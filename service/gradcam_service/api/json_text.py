"""JSON bodies, parsed within bounds."""

from __future__ import annotations

import codecs

import msgspec

from gradcam_service.errors import BadRequest, TooLarge

_MOST_VALUES = 2**20
"""Lists, objects and members of either in one body. Parsed, each takes up to a hundred bytes."""


def members_of(body: bytes, example: str) -> dict[str, object]:
    """The members of the object that a body is.

    Args:
        body: as it was sent.
        example: of one that would do.

    Raises:
        BadRequest: it is no JSON in UTF-8, or no object.
        TooLarge: it holds more than a million values.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in body[:2]:
        raise BadRequest("the body is JSON in UTF-16 or UTF-32; UTF-8 would work")
    check_values(body)
    try:
        members = msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(members, dict):
        raise BadRequest(f"the body must be a JSON object such as {example}")
    return members


def check_values(text: bytes) -> None:
    """Refuse JSON that would take far more room once it is parsed, before it is.

    Raises:
        TooLarge: it holds more than a million values.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise TooLarge(f"the JSON holds more than {_MOST_VALUES} values; pictures in base64 take one each")
