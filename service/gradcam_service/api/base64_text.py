"""Base64 as people write it: in either alphabet, with or without padding, with blanks, in ``data:`` URIs."""

from __future__ import annotations

import base64
import binascii

from gradcam_service.errors import BadRequest
from gradcam_service.images.signatures import NOT_FETCHED, URL, kind

_LONG = 2**20
"""Characters that keep the event loop for a millisecond."""
_STANDARD = bytes.maketrans(b"-_", b"+/")
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
    if kind(text[:1000].encode(errors="replace")) == URL:
        raise BadRequest(f"{where} is a URL; {NOT_FETCHED}, or those bytes in base64")
    try:
        given = text.encode("ascii").translate(_STANDARD, delete=_BLANKS)
        letters = given.rstrip(b"=")
        padding = len(given) - len(letters)
        if b"=" in letters or len(letters) % 4 == 1 or (padding and (padding > 2 or len(given) % 4)):
            raise BadRequest(f"{where} is not base64: its length or padding is wrong")
        letters += b"=" * (-len(letters) % 4)  # a part at a time, between which other threads get their turn
        return b"".join(base64.b64decode(letters[i : i + _LONG], validate=True) for i in range(0, len(letters), _LONG))
    except (binascii.Error, ValueError):
        raise BadRequest(f"{where} is not base64, whose letters are A-Z, a-z, 0-9, + and /, or - and _") from None
