"""Bodies of answers: short ones at once, long ones while they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastapi import Response
from fastapi.responses import StreamingResponse

_SHORT = 2**20
"""Bytes of an answer that is written at once."""


def sent(
    pieces: Iterable[bytes | memoryview],
    size: int,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A body as a response; a long one is never held as a whole, and keeps no other answer waiting.

    Args:
        pieces: of the body, written one by one as they are taken.
        size: how many bytes it has, about.
        media_type: of it.
        headers: besides.
    """
    if size <= _SHORT:
        return Response(b"".join(pieces), headers=headers, media_type=media_type)
    return StreamingResponse(pieces, headers=headers, media_type=media_type)
