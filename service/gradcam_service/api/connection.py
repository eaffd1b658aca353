"""Uvicorn's connections with limits: on how many there are, on a head's size, and on how long a caller may take."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

import httptools
from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradcam_service.api import problems
from gradcam_service.api.cors import with_cors
from gradcam_service.api.lingering import Lingering
from gradcam_service.api.upgrades import IgnoringUpgrades
from gradcam_service.errors import BadRequest, HeadTooLarge, ServiceError, TooManyConnections, TooSlow
from gradcam_service.settings import Settings

_LONGEST_HEAD = 64 * 2**10
"""Bytes of a request line with its headers; neither httptools nor uvicorn has a bound."""
_ALIVE = b"/livez"
"""Answered on connections beyond the bound, too: a process with many callers must not be taken for dead."""


class Connection(IgnoringUpgrades):
    """Uvicorn's protocol for one connection, within the limits that are set.

    Args:
        settings: has the limits.
        given: what uvicorn gives.
    """

    def __init__(self, settings: Settings, **given: Any) -> None:  # noqa: ANN401  uvicorn's own business
        super().__init__(**given)
        self.url = b""  # which uvicorn sets when a head begins
        self._settings = settings
        self._surplus = False  # whether it is one too many
        self._unasked: asyncio.TimerHandle | None = None  # runs while a head is awaited
        self._untaken: asyncio.TimerHandle | None = None  # runs while the caller does not take what is written
        self._head = 0  # bytes received of a head that isn't complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a head when a caller connects, who may be one too many."""
        self._plain, self._lingering = transport, Lingering(transport, self._expects_more, self._await_head)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        transport.set_write_buffer_limits(high=0)  # so that writing pauses whenever the caller is behind
        self._await_head()
        most = self._settings.share(self._settings.max_connections)
        self._surplus = len(self.connections) > most and self._used() > most

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every clock when either side has closed the connection."""
        self._head_is_complete()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, unless a head gets too large."""
        if self.transport.is_closing():
            return
        before = self._head
        super().data_received(data)
        if self._head and (self._head == before or self.cycle is None):  # else a request's rest comes before the head
            self._head += len(data)
        if self._head > _LONGEST_HEAD:
            self._refuse(HeadTooLarge(f"the head is larger than {_LONGEST_HEAD} bytes, the most that is accepted"))

    def on_message_begin(self) -> None:
        """Give a head that begins its time from now."""
        super().on_message_begin()
        self._await_head()
        self._head = 1

    def on_headers_complete(self) -> None:
        """Hand a request whose head is complete to the application, or refuse it on a connection too many."""
        self._head_is_complete()
        offered = self.parser.should_upgrade()  # then it comes again
        if self._surplus and not offered and self.url != _ALIVE:
            most = self._settings.max_connections
            error = TooManyConnections(f"{most} connections are open, the most that are accepted")
            self.app = _closing(with_cors(_refusing(error), self._settings))
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Wait for the next head once an answer is written: its request may go on, or the next one never come."""
        super().on_response_complete()
        if self.cycle.response_complete and not self._head:
            self._await_head()

    def shutdown(self) -> None:
        """Close at once where nothing is being answered: who is in the middle of a head would hold up the end."""
        if self.cycle is None or self.cycle.response_complete or self.transport.is_closing():
            self._plain.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Give a caller who doesn't take what is written some time, then hang up."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self._settings.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that clock when the caller has taken everything."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(BadRequest(msg))

    def _await_head(self) -> None:
        self._head_is_complete()
        self._unasked = self.loop.call_later(self._settings.read_seconds, self._give_up)

    def _head_is_complete(self) -> None:
        if self._unasked is not None:
            self._unasked.cancel()
        self._unasked, self._head = None, 0

    def _give_up(self) -> None:
        if self._head:
            self._refuse(TooSlow(f"the head did not arrive within {self._settings.read_seconds:g} s"))
        else:
            self._plain.close()

    def _used(self) -> int:
        """How many connections there are but for those on which a caller is refused, and heard out."""
        return sum(not one.transport.is_closing() for one in self.connections)

    def _expects_more(self) -> bool:
        """Whether a head or a body has begun that isn't complete."""
        return bool(self._head) or (self.cycle is not None and self.cycle.more_body)

    def _refuse(self, error: ServiceError) -> None:
        """Answer what is no request yet, in the dialect that its caller speaks, as far as it is known."""
        self._head_is_complete()
        self.transport.write(_encoded(problems.refuse(error, _path(self.url))))
        self._lingering.linger()
        if self.cycle is not None and not self.cycle.response_complete:  # it answers nobody any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _path(url: bytes) -> str:
    """The path of a request line's URL, which may not be whole; empty where none can be told yet."""
    try:
        return (httptools.parse_url(url).path or b"").decode("latin-1")
    except httptools.HttpParserInvalidURLError:
        return ""


def _refusing(error: ServiceError) -> ASGIApp:
    """An application that refuses whatever reaches it, which a browser's question whether it may ask does not."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await problems.refuse(error, scope["path"])(scope, receive, send)

    return refuse


def _closing(app: ASGIApp) -> ASGIApp:
    """An application after whose answer the connection is closed."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, sending)

    return answer


def _encoded(response: Response) -> bytes:
    """The last answer on a connection."""
    status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()
    headers = [b": ".join(header) for header in (*response.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join([status, *headers, b"", bytes(response.body)])
