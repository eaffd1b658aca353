"""A collector of spans, as the service exports them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from live import until


class Collector(ThreadingHTTPServer):
    """Takes spans as every OpenTelemetry collector does, by OTLP over HTTP; `received` is what was sent to it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        super().__exit__()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def spans(self, trace=None):
        """Those of one trace, or all."""
        every = [s for r in list(self.received) for sent in r.resource_spans for s in sent.scope_spans]
        return [span for s in every for span in s.spans if trace in (None, span.trace_id.hex())]

    def request(self, trace):
        """The span of a trace's only request, once it has come, and those of its stages, which are sent before it."""

        def requests():
            return [span for span in self.spans(trace) if span.kind == Span.SPAN_KIND_SERVER]

        until(lambda: len(requests()), 1)
        stages = [span for span in self.spans(trace) if span.kind != Span.SPAN_KIND_SERVER]
        return requests()[0], sorted(stages, key=lambda span: span.start_time_unix_nano)


class Receiver(BaseHTTPRequestHandler):
    """One connection to a collector."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        if known:
            self.server.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
