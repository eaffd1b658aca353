"""Spans as a collector receives them: whose trace they belong to, what they say, and that they never harm an answer."""

import re
import subprocess
import sys

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import gradcam_service
from collector import Collector
from gradcam_service.api.observe import Observation
from gradcam_service.api.tracing import Tracing
from live import PATIENCE, closed_port, running_lightly, until

from .calls import BINARY, ask, encoded, logged, photo, predict, problem
from .test_headers import timings

SMALL = encoded(photo(60, 40), "PNG")
LARGE = encoded(photo(2000, 1500), "JPEG")  # decoding it takes longer than a millisecond
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["read", "decode", "queue", "forward", "backward", "render"]


def parent(trace=TRACE, flags="01"):
    return {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


def attributes(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def milliseconds(span):
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def test_a_request_is_a_span_of_the_callers_trace(traced, collector):
    response = traced.client.post("/explain", content=SMALL, headers=BINARY | parent() | {"X-Request-ID": "mine"})
    assert response.status_code == 200
    request, _ = collector.request(TRACE)
    assert request.parent_span_id.hex() == PARENT
    assert (request.name, request.kind) == ("POST /explain", Span.SPAN_KIND_SERVER)
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/explain",
        "url.path": "/explain",
        "url.scheme": "http",
        "gradcam.request_id": "mine",
        "gradcam.model": "scenes",
        "gradcam.method": "gradcam",
    }
    assert logged(traced, response)["trace_id"] == TRACE


def test_each_stage_is_a_span_in_its_request(traced, collector):
    trace = "1" * 32
    response = traced.client.post("/explain", content=SMALL, headers=BINARY | parent(trace))
    told = timings(response)
    request, stages = collector.request(trace)
    assert [stage.name for stage in stages] == STAGES
    assert {stage.parent_span_id for stage in stages} == {request.span_id}
    assert {stage.kind for stage in stages} == {Span.SPAN_KIND_INTERNAL}
    ends = [request.start_time_unix_nano, *(stage.end_time_unix_nano for stage in stages)]
    for stage, end_before in zip(stages, ends, strict=False):  # one after the other, but for what rounding does
        assert end_before - 1000 <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert milliseconds(stage) == pytest.approx(told[stage.name], abs=0.006)
    assert ends[-1] <= request.end_time_unix_nano
    assert told["total"] - 0.006 <= milliseconds(request)


def test_each_image_has_its_stages(traced, collector):
    trace = "2" * 32
    response = traced.client.post("/predict", files=[("image", SMALL)] * 2, headers=parent(trace))
    assert response.status_code == 200
    request, stages = collector.request(trace)
    assert sorted(stage.name for stage in stages) == sorted(["read", *["decode", "queue", "forward"] * 2])
    for stage in stages:
        assert request.start_time_unix_nano <= stage.start_time_unix_nano
        assert stage.end_time_unix_nano <= request.end_time_unix_nano


@pytest.mark.parametrize("given", [None, "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"])
def test_a_request_of_nobodys_trace_is_one_of_its_own(traced, collector, given):
    headers = BINARY if given is None else BINARY | {"traceparent": given}
    trace = logged(traced, traced.client.post("/predict", content=SMALL, headers=headers))["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert trace != TRACE
    request, _ = collector.request(trace)
    assert request.parent_span_id == b""


@pytest.mark.parametrize(
    ("path", "options", "status", "code", "named", "failed"),
    [
        ("/explain", {"model": "nothing"}, 404, "unknown_model", "POST /explain", Status.STATUS_CODE_UNSET),
        ("/nowhere", {}, 404, "no_such_path", "POST", Status.STATUS_CODE_UNSET),
        ("/predict", {"timeout_ms": 1}, 504, "deadline_exceeded", "POST /predict", Status.STATUS_CODE_ERROR),
    ],
)
def test_a_problem_is_told(traced, collector, path, options, status, code, named, failed):
    response = ask(traced.client, path, LARGE, **options)
    assert problem(response, status, code)
    request, _ = collector.request(logged(traced, response)["trace_id"])
    assert (request.name, request.status.code) == (named, failed)
    told = attributes(request)
    assert (told["http.response.status_code"], told["error.type"]) == (status, code)
    assert told.get("http.route") == (path if path in named else None)


def test_what_the_caller_does_not_sample_is_not_sent(traced, collector):
    unsampled, sampled = "3" * 32, "4" * 32
    for trace, flags in ((unsampled, "00"), (sampled, "01")):
        response = traced.client.post("/predict", content=SMALL, headers=BINARY | parent(trace, flags))
        assert logged(traced, response)["trace_id"] == trace
    assert collector.request(sampled)  # they are sent in the order of their ends
    assert collector.spans(unsampled) == []


def test_spans_are_those_of_this_service(traced, collector):
    assert predict(traced.client, SMALL)
    until(lambda: bool(collector.received))
    for request in list(collector.received):
        for sent in request.resource_spans:
            told = attributes(sent.resource)
            assert (told["service.name"], told["service.version"]) == ("gradcam-service", gradcam_service.__version__)
            assert told["deployment.environment.name"] == "attic"


@pytest.mark.parametrize(("sampler", "sent"), [("always_on", ["POST"]), ("always_off", [])])
def test_only_what_is_to_be_sampled_is_sent(monkeypatch, sampler, sent):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing = Tracing()
        scope = {"type": "http", "method": "POST", "path": "/predict", "scheme": "http", "headers": []}
        assert re.fullmatch("[0-9a-f]{32}", tracing.trace(scope, Observation("mine"), 200))
        tracing.close()
        assert [span.name for span in collector.spans()] == sent


def logits(client):
    """Those of the likeliest classes, which differ in the last digits once a runtime has been built."""
    return {one["label"]: one["logit"] for one in predict(client, SMALL)}


@pytest.fixture
def silent():
    """What nobody listens on, until it is told to, and then says nothing."""
    with closed_port() as taken:
        taken.settimeout(PATIENCE)
        yield taken


def test_a_collector_that_is_not_there_or_says_nothing_harms_no_answer(monkeypatch, silent):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://{}:{}".format(*silent.getsockname()))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # seconds; what the last spans may delay the end
    with running_lightly(tracing=True) as started:
        first = logits(started.client)

        def refused():
            """Whether an export found nobody there: on a slow machine the second is over before the first has tried."""
            logits(started.client)
            return "Connection refused" in "".join(started.output)

        until(refused)
        assert logits(started.client) == pytest.approx(first, abs=1e-4)
        silent.listen()
        assert logits(started.client) == pytest.approx(first, abs=1e-4)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"POST"
            assert logits(started.client) == pytest.approx(first, abs=1e-4)
    assert started.process.returncode == 0


@pytest.mark.parametrize("tracing", [False, True])
def test_what_traces_is_imported_only_where_tracing_is_on(tracing):
    program = (
        "import asyncio, sys; from gradcam_service.api.app import create_app;"
        "from gradcam_service.core.admission import Capacity;"
        "from gradcam_service.settings import Settings;"
        f"create_app(Capacity(Settings(tracing={tracing})), [], asyncio.Event());"
        "print([name in sys.modules for name in ('opentelemetry.sdk', 'opentelemetry.exporter')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == f"{[tracing] * 2}\n", done.stderr
