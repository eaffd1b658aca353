"""Base64 as people write it: in either alphabet, with or without padding, with blanks, in ``data:`` URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from gradcam_service.errors import BadRequest
from gradcam_service.images.signatures import NOT_FETCHED, URL, kind

_LONG = 2**20
"""Characters that keep the event loop for a millisecond."""
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LETTERS = "A-Z, a-z, 0-9, + and /, or - and _"
_BLANKS = b" \t\r\n\f\v"


def decode_base64(text: object, where: str) -> bytes:
    """The bytes of a base64 string, which may be a ``data:`` URI.

    Raises:
        BadRequest: saying where it was found and what is wrong.
    """
    if not isinstance(text, str):
        raise BadRequest(f"{where} must be a string of base64, or a data: URI")
    text = text.lstrip()
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or header.rpartition(";")[2].strip().lower() != "base64":
            raise BadRequest(f"{where} is a data: URI without ';base64,'; only base64 is read")
    try:
        return _decoded(text)
    except ValueError as error:  # only now, as what is base64 can't be a URL
        if kind(text[:1000].encode(errors="replace")) == URL:
            raise BadRequest(f"{where} is a URL; {NOT_FETCHED}, or those bytes in base64") from None
        length = isinstance(error, _WrongLength)
        reason = ": its length or padding is wrong" if length else f", whose letters are {_LETTERS}"
        raise BadRequest(f"{where} is not base64{reason}") from None


def frames_of(written: Sequence[object], where: str) -> tuple[bytes, ...]:
    """The files of the frames of one picture, each in base64, or as KServe wraps that: ``{"b64": …}``.

    Raises:
        BadRequest: there is none, or one is no base64.
    """
    if not written:
        raise BadRequest(f"{where} is empty; the frames of one picture, oldest first, would work")
    plain = (one.get("b64") if isinstance(one, dict) else one for one in written)
    return tuple(decode_base64(one, f"{where}[{place}]") for place, one in enumerate(plain))


def _decoded(text: str) -> bytes:
    """The bytes of base64. Raises `_WrongLength`, or another ``ValueError`` for letters that it doesn't have."""
    given = text.encode("ascii").translate(_STANDARD, delete=_BLANKS)
    letters = given.rstrip(b"=")
    padding = len(given) - len(letters)
    if b"=" in letters or len(letters) % 4 == 1 or (padding and (padding > 2 or len(given) % 4)):
        raise _WrongLength
    letters += b"=" * (-len(letters) % 4)  # a part at a time, between which other threads get their turn
    return b"".join(base64.b64decode(letters[i : i + _LONG], validate=True) for i in range(0, len(letters), _LONG))


class _WrongLength(ValueError):
    """No base64 has so many letters, or its padding there."""
