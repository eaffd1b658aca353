"""Pages of other origins: what browsers let them ask and read (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from gradcam_service.settings import Settings

_SENT = ("Authorization", "Content-Encoding", "Content-Type", "X-Request-ID", "traceparent", "tracestate")
_READ = ("Retry-After", "Server-Timing", "WWW-Authenticate", "X-Request-ID", "X-Warnings")
_KEPT = 3600
"""Seconds that a browser may remember what it may send."""


def with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """An application that tells browsers of the origins in `Settings.cors_origins`; the same where there are none.

    Keys travel in ``Authorization``, which scripts set themselves, so that no cookies are ever wanted.
    """
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=("GET", "HEAD", "POST", "PUT"),
        allow_headers=_SENT,
        expose_headers=_READ,
        max_age=_KEPT,
    )
