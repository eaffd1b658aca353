"""HEAD wherever there is GET, as RFC 9110 (9.3.2) asks; FastAPI's routes know of GET alone."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware that has HEAD answered as GET would be; the server leaves the body out.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        routed = {**scope, "method": "GET"}  # a copy: by its own, the server knows that no body is to be sent
        try:
            await self._app(routed, receive, send)
        finally:
            scope["route"] = routed.get("route")  # which the router has found, for those who observe
