"""Resources that a request holds until it has been answered, to the last byte, or its caller has left."""

from __future__ import annotations

from contextlib import ExitStack

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class Held:
    """ASGI middleware that gives back what a request holds; see `held`.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        with ExitStack() as scope["held"]:
            await self._app(scope, receive, send)


def held(request: Request) -> ExitStack:
    """Where to enter what is to be held while this request is answered."""
    stack: ExitStack = request.scope["held"]
    return stack
