"""Normalisation of what callers write for a route that there is: HEAD for GET, a slash at the end of a path."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class Routed:
    """ASGI middleware that shows the router what it knows.

    HEAD is answered as GET would be, wherever there is GET, as RFC 9110 (9.3.2) asks, and FastAPI's routes know of GET
    alone; the server leaves the body out. What is posted to ``/predict/`` is answered there, and not by a redirection,
    after which many clients don't send the body again.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        routed = {**scope, **_known(scope)}  # a copy: by its own, the server knows that no body is to be sent
        try:
            await self._app(routed, receive, send)
        finally:
            scope["route"] = routed.get("route")  # which the router has found, for those who observe


def _known(scope: Scope) -> dict[str, str]:
    """The members of a scope that a route is found by, where they differ."""
    if scope["type"] != "http":
        return {}
    if scope["method"] == "HEAD":
        return {"method": "GET"}
    if scope["method"] in ("POST", "PUT") and len(scope["path"]) > 1 and scope["path"].endswith("/"):
        return {"path": scope["path"].rstrip("/") or "/"}
    return {}
