"""Bodies that come compressed (``Content-Encoding``), decoded piece by piece: a small one may hold a very large one."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterable

from starlette.datastructures import Headers

from gradcam_service.errors import BadRequest, UnsupportedMedia

_PIECE = 2**18
"""Most bytes that are decoded at a time, which takes about a millisecond."""
_FED = 2**14
"""Most bytes that are given to zlib at a time, which copies what it leaves of them."""


def content_coding(headers: Headers) -> str | None:
    """How a body is compressed: ``gzip`` or ``deflate``; None where it isn't.

    Raises:
        UnsupportedMedia: in another way, or more than once.
    """
    named = [coding.strip().lower() for coding in ",".join(headers.getlist("content-encoding")).split(",")]
    codings = [coding.removeprefix("x-") for coding in named if coding not in ("", "identity")]
    if not codings:
        return None
    if codings not in (["gzip"], ["deflate"]):
        given = ", ".join(codings)
        raise UnsupportedMedia(f"content encoding {given!r} is not read; gzip, deflate or none (identity) would work")
    return codings[0]


async def decoded(chunks: AsyncIterable[bytes], coding: str) -> AsyncGenerator[bytes, None]:
    """The pieces of a body, each of 256 KiB at most; it may be stopped after any.

    Raises:
        BadRequest: the body is not what its head says, or is cut short.
    """
    inflate, piece = None, b""
    async for chunk in chunks:
        sent, at = memoryview(chunk), 0
        while at < len(sent) or len(piece) == _PIECE:  # after a full piece, more may be due without any input
            fed = sent[at : at + _FED]
            inflate = inflate or zlib.decompressobj(_window(coding, fed))
            try:
                piece = inflate.decompress(fed, _PIECE)
            except zlib.error as error:
                raise BadRequest(f"the body is not in the content encoding {coding}: {error}") from None
            if piece:
                yield piece
            await asyncio.sleep(0)  # others get their turn, also between members that are empty
            at += len(fed) - len(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
            if inflate.eof:  # gzip may go on with another member (RFC 1952, 2.2)
                inflate, piece = None, b""
    if inflate is not None:
        raise BadRequest(f"the body ends before its content encoding {coding} does")


def _window(coding: str, begin: memoryview) -> int:
    """The ``wbits`` of zlib; some take deflate for RFC 1951 alone, and not for that in RFC 1950 as HTTP does."""
    if coding == "gzip":
        return 16 + zlib.MAX_WBITS
    return zlib.MAX_WBITS if begin[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
