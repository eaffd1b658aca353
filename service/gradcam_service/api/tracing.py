"""Spans of OpenTelemetry: one for each request, one in it for each stage. Imported only where tracing is on.

Where they go and how many are kept is told by the standard ``OTEL_*`` environment variables.
"""

from __future__ import annotations

from time import perf_counter, time_ns

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import Scope

import gradcam_service
from gradcam_service.api.observe import Observation


class Tracing:
    """Tracer of one API process: makes the spans of its requests and exports them."""

    def __init__(self) -> None:
        named = Resource.create({"service.name": "gradcam-service", "service.version": gradcam_service.__version__})
        self._provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("gradcam", gradcam_service.__version__)

    def trace(self, scope: Scope, seen: Observation, status: int) -> str:
        """Send the spans of a request that has just ended; returns the id of its trace."""
        epoch = time_ns() - _ns(perf_counter())  # of the clock that stages are timed by
        route = getattr(scope.get("route"), "path", "")
        attributes = {
            "http.request.method": scope["method"],
            "http.response.status_code": status,
            "http.route": route,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "error.type": seen.problem,
            "gradcam.request_id": seen.request_id,
            "gradcam.model": seen.model,
            "gradcam.method": seen.method,
        }
        span = self._tracer.start_span(
            f"{scope['method']} {route}".rstrip(),
            TraceContextTextMapPropagator().extract(dict(Headers(scope=scope))),
            SpanKind.SERVER,
            {name: value for name, value in attributes.items() if value},
            start_time=epoch + _ns(seen.start),
        )
        for stage, start, end in seen.stages:
            inside = self._tracer.start_span(stage, set_span_in_context(span), start_time=epoch + _ns(start))
            inside.end(epoch + _ns(end))
        if status >= 500 or not status:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what has not been sent yet."""
        self._provider.shutdown()


def _ns(seconds: float) -> int:
    return round(1e9 * seconds)
