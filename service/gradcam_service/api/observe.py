"""Observation of every request: its id, its timings, one metric sample and one log line."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradcam_service import metrics

if TYPE_CHECKING:
    from gradcam_service.api.tracing import Tracing

log = logging.getLogger("gradcam.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_LONGEST = 2000
"""Characters of a header: proxies take 4 KiB of all of them, or 8."""
_STAGES = ("read", "decode", "queue", "forward", "backward", "render")


@dataclass
class Observation:
    """Record of one request, filled in while it is answered.

    Attributes:
        request_id: see `request_id_of`.
        model: a name from the registry, never what a caller typed.
        version: of that model.
        method: an explanation method of that model; empty for predictions.
        iterative: whether what is explained takes passes of its own, in chunks.
        problem: code of the problem that was answered.
        warnings: sentences about the images, which not every dialect's body has a place for.
        caller: name of the API key that was shown; empty where none is needed, or none was right.
        callers_fault: whether a failure is no unavailability, whatever its status; see `api.fault_attribution`.
        seconds: time in each stage; of several images, the longest.
        stages: each stage of each image, with its start and end.
    """

    request_id: str
    model: str = ""
    version: str = ""
    method: str = ""
    iterative: bool = False
    problem: str = ""
    warnings: list[str] = field(default_factory=list)
    caller: str = ""
    callers_fault: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    stages: list[tuple[str, float, float]] = field(default_factory=list)
    start: float = field(default_factory=perf_counter)

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """Note that a stage took so long for one image, until now or ``end``."""
        end = perf_counter() if end is None else end
        self.stages.append((stage, end - seconds, end))
        self.seconds[stage] = max(seconds, self.seconds.get(stage, 0.0))
        metrics.STAGE.labels(stage, self.model).observe(seconds)

    def server_timing(self) -> str:
        """The ``Server-Timing`` header: stages and total in ms (https://www.w3.org/TR/server-timing/)."""
        parts = [f"{stage};dur={1e3 * self.seconds[stage]:.2f}" for stage in _STAGES if stage in self.seconds]
        return ", ".join([*parts, f"total;dur={1e3 * (perf_counter() - self.start):.2f}"])

    def in_a_header(self) -> str:
        """The ``X-Warnings`` header: each warning once."""
        return "; ".join(dict.fromkeys(self.warnings)).encode("ascii", "replace").decode()[:_LONGEST]


def request_id_of(given: str) -> str:
    """A request's id: the caller's own where it is short and plain, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def observation(request: HTTPConnection) -> Observation:
    """What is seen of this request."""
    seen: Observation = request.scope["observation"]
    return seen


class Observe:
    """ASGI middleware around the whole application, its handling of errors included.

    Args:
        app: what is observed.
        tracing: what sends spans; None where tracing is off.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing | None) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        seen = Observation(request_id_of(given))
        scope["observation"] = seen
        status = 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = seen.request_id
                headers["Server-Timing"] = seen.server_timing()
                if seen.warnings:
                    headers["X-Warnings"] = seen.in_a_header()
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        except Exception:  # the caller has been told, by the handler in `problems`; here the log is
            log.exception("request failed", extra={"fields": {"request_id": seen.request_id}})
            if not status:
                raise
        finally:
            _note(scope, seen, status, self._tracing)


def _note(scope: MutableMapping[str, Any], seen: Observation, status: int, tracing: Tracing | None) -> None:
    endpoint = getattr(scope.get("route"), "path", "unknown")
    seconds = perf_counter() - seen.start
    inference = "inference" in getattr(scope.get("route"), "tags", ())
    labels = (endpoint, str(inference).lower(), seen.model, seen.version, seen.method, status, _fault(seen, status))
    metrics.REQUESTS.labels(*labels).inc()
    metrics.DURATION.labels(endpoint, seen.model, seen.method, str(seen.iterative).lower()).observe(seconds)
    if seen.caller:
        metrics.CALLER_REQUESTS.labels(seen.caller).inc()
    if seen.problem and inference:
        metrics.REJECTED.labels(seen.problem).inc()
    fields = {
        "request_id": seen.request_id,
        "http_method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(1e3 * seconds, 2),
        "model": seen.model,
        "version": seen.version,
        "method": seen.method,
        "problem": seen.problem,
        "caller": seen.caller,
        "stages_ms": {stage: round(1e3 * value, 2) for stage, value in seen.seconds.items()},
    }
    if tracing is not None:
        fields["trace_id"] = tracing.trace(scope, seen, status)
    log.log(logging.INFO if inference else logging.DEBUG, "request", extra={"fields": fields})


def _fault(seen: Observation, status: int) -> str:
    """Whose fault it is that there is no answer; empty where there is one. Without a status, not a word was sent."""
    if 200 <= status < 400:
        return ""
    return "caller" if seen.callers_fault or 400 <= status < 500 else "service"
