"""A call's metadata, and the headers of HTTP that they are."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

Context = Any
"""`grpc.aio.ServicerContext`, which is generic in types that it doesn't name."""

_ASKED = ("authorization", "x-request-id", "traceparent", "tracestate")
"""Metadata that HTTP has headers for."""
_TOLD = ("x-request-id", "server-timing", "retry-after")
"""Headers that are told in trailing metadata."""


def headers_of(context: Context) -> dict[str, str]:
    """The headers that a call's metadata are."""
    return {name: value for name, value in context.invocation_metadata() or () if name in _ASKED}


def trailing(headers: Headers) -> tuple[tuple[str, str], ...]:
    """What is told of an answer's headers after it."""
    return tuple((name, headers[name]) for name in _TOLD if name in headers)
