"""Calls of the application by its own process, as HTTP would make them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from gradcam_service.api.oip.messages import Exchange


@dataclass(frozen=True)
class Answer:
    """What the application answers.

    Attributes:
        status: of HTTP.
        headers: likewise.
        body: all of it.
    """

    status: int
    headers: Headers
    body: bytes


class Application:
    """The ASGI application, asked from within.

    Args:
        app: with all its middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"", exchange: Exchange | None = None
    ) -> Answer:
        """Ask, and wait for the whole answer. Where this is cancelled, the application learns that its client has left.

        Args:
            method: of HTTP.
            path: not quoted.
            headers: by their lower-case names.
            body: of the request.
            exchange: what is asked, and answered, instead of bodies.
        """
        gone, received, sent = asyncio.Event(), [{"type": "http.request", "body": body}], list[Message]()

        async def receive() -> Message:
            if received:
                return received.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        size = len(body) if exchange is None else exchange.size
        scope = _scope(method, path, {**headers, "content-length": str(size)})
        scope["exchange"] = exchange
        answering = asyncio.ensure_future(self._app(scope, receive, send))
        try:
            await asyncio.shield(answering)
        except asyncio.CancelledError:
            gone.set()
            raise
        start, *rest = sent
        return Answer(start["status"], Headers(raw=start["headers"]), b"".join(part.get("body", b"") for part in rest))


def _scope(method: str, path: str, headers: Mapping[str, str]) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": None,
        "server": None,
        "state": {},
    }
