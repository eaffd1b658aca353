"""Closing a connection so that its caller gets the last answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Lingering:
    """A transport that closes in two steps where its caller may still be sending: it writes no more, but hears on.

    A connection that is closed with bytes unread is reset by the system, and what was just written to it is lost on
    the way: a caller in the middle of a picture that is too large would be told "connection reset" and not why
    (RFC 9112, 9.6). So what comes is taken and thrown away until the caller closes, too, or whoever made this does.

    Args:
        transport: the connection's own, whose every other method this has.
        expects_more: says whether something that was begun is yet to be received.
        on_linger: is to see that the transport is closed some time, whatever the caller does.
    """

    def __init__(
        self, transport: asyncio.Transport, expects_more: Callable[[], bool], on_linger: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._expects_more = expects_more
        self._on_linger = on_linger
        self._lingers = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  the transport's
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless it was said that nothing more is written."""
        if not self._lingers:
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything is written; where more is still to come, as `linger` does."""
        if self._lingers or not self._expects_more():
            self._transport.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Say that nothing more is written, and drop what comes until the caller closes."""
        if self.is_closing():
            return
        self._lingers = True
        self._transport.resume_reading()
        self._transport.write_eof()
        self._on_linger()

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
        return self._lingers or self._transport.is_closing()
