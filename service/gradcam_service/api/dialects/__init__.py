"""The protocols that are spoken over HTTP, one file each: its routes, and how it writes an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter, Response

from gradcam_service.api.documentation import Responses, problems
from gradcam_service.kinds import Kinds


@dataclass(frozen=True)
class Fault:
    """Error that answers a request, before a dialect has put it into words.

    Attributes:
        status: the HTTP status.
        code: stable, for programs.
        title: what kind of fault, in a few words.
        detail: one sentence that says what would work.
        request_id: of the request that it answers.
        headers: what HTTP wants beside the status, as ``Retry-After``.
    """

    status: int
    code: str
    title: str
    detail: str
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """Dialect of HTTP: a protocol that clients speak.

    Attributes:
        router: its routes, where keys are needed for callers with a key alone. Those tagged ``inference`` are logged,
            counted and held against the objectives as ``/predict`` is.
        prefixes: what the paths that it answers under begin with, whole segments of them; of several that fit a path,
            the longest decides.
        write: puts a fault into its own words and under its own status; also those of paths that it has no route for,
            and of requests that are refused before they are read.
        open: its routes for whoever asks, key or not: probes of orchestrators, which have none.
        documented: OpenAPI's responses for faults of these statuses.
        management: its routes for whoever has the admin token; they aren't there where none is set.
    """

    router: APIRouter
    prefixes: tuple[str, ...]
    write: Callable[[Fault], Response]
    open: APIRouter = field(default_factory=APIRouter)
    documented: Callable[..., Responses] = problems
    management: APIRouter = field(default_factory=APIRouter)


DIALECTS: Kinds[Dialect] = Kinds(__name__, "DIALECT")


def dialect_of(path: str) -> Dialect:
    """The dialect that answers under a path; the native one where no other does, or the path isn't known yet."""
    fitting = (
        (len(prefix), name)
        for name, dialect in DIALECTS.items()
        for prefix in dialect.prefixes
        if path == prefix or path.startswith(prefix.rstrip("/") + "/")
    )
    return DIALECTS[max(fitting, default=(0, "native"))[1]]
