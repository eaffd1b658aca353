"""HTTP connections that nobody can hold open for nothing: there are so many of them, and heads arrive in time."""

from __future__ import annotations

import asyncio
import logging
import uuid
from http import HTTPStatus

from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import metrics
from service.api import problems
from service.errors import BadRequest, HeadTooLarge, ServiceError, TooManyConnections, TooSlow
from service.settings import Settings

log = logging.getLogger(__name__)

_LONGEST_HEAD = 64 * 2**10
"""Bytes of a request line with its headers; neither httptools nor uvicorn has a bound."""
_ALIVE = b"/livez"
"""Answered on connections beyond the bound, too: a process with many callers must not be taken for dead."""


def limited(settings: Settings) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol within the limits that are set."""
    seconds, all_connections = settings.read_seconds, settings.max_connections
    most = max(1, all_connections // settings.api_processes)
    full = TooManyConnections(f"{all_connections} connections are open, the most that are accepted")

    class Connection(HttpToolsProtocol):
        """One connection of a caller."""

        _timer: asyncio.TimerHandle | None = None
        _surplus = False
        _head = 0  # bytes received of a head that is not complete

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()
            self._surplus = len(self.connections) > most

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_complete()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            began = self._timer is None  # then what comes first in these data is the rest of a body
            super().data_received(data)
            if self._timer is None:
                return
            self._head += 1 if began else len(data)
            if self._head > _LONGEST_HEAD:
                self._refuse(HeadTooLarge(f"the head is larger than {_LONGEST_HEAD} bytes, the most that is accepted"))

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_head()

        def on_headers_complete(self) -> None:
            self._head_is_complete()
            if self._surplus and self.url != _ALIVE:
                self.app = _refusing(full)
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(BadRequest(msg))

        def _await_head(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def _head_is_complete(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._head = None, 0

        def _give_up(self) -> None:
            if self._head:
                self._refuse(TooSlow(f"the head did not arrive within {seconds:g} s"))
            else:
                self.transport.close()

        def _refuse(self, error: ServiceError) -> None:
            """Answer what is no request yet."""
            self._head_is_complete()
            self.transport.write(_encoded(_refusal(error)))
            self.transport.close()

    return Connection


def _refusing(error: ServiceError) -> ASGIApp:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await _refusal(error)(scope, receive, send)

    return refuse


def _refusal(error: ServiceError) -> Response:
    """What is answered where the application is not asked; the connection is closed then."""
    request_id = uuid.uuid4().hex
    log.warning("refused", extra={"fields": {"problem": error.code, "request_id": request_id}})
    metrics.REJECTED.labels(error.code).inc()
    response = problems.respond(error, request_id)
    response.headers["X-Request-ID"] = request_id
    response.headers["Connection"] = "close"
    return response


def _encoded(response: Response) -> bytes:
    status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()
    headers = [b": ".join(header) for header in response.raw_headers]
    return b"\r\n".join([status, *headers, b"", bytes(response.body)])
