"""A service that is told to stop: what callers, a load balancer and a collector of spans see of it until its end."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from api.calls import BINARY, encoded, photo
from collector import Collector
from live import PATIENCE, Service, free_port, fresh, repeated, running_lightly, until
from rolling import balanced, ready

PICTURE = encoded(photo(60, 40), "PNG")
TRACES = [f"{number:032x}" for number in range(1, 6)]
"""Of the request that is under way, and of those of new callers."""
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")  # where Debian has it
NOTICE = 10
"""Seconds that it goes on after SIGTERM; HAProxy notices in two or three."""


@dataclass
class Stopped:
    """What was seen of a service from its SIGTERM on.

    Attributes:
        ready: status of /readyz, then.
        live: status of /livez, then.
        late: statuses of requests of new callers, then.
        under_way: status of a request whose body was complete only when the service listened no more.
        balanced: statuses of requests through a load balancer, from before to the end, or nothing without HAProxy.
        code: the exit code.
        left: its processes that outlived it.
        traces: those of which a collector received the spans.
    """

    ready: int = 0
    live: int = 0
    late: list[int] = field(default_factory=list)
    under_way: int = 0
    balanced: Counter[int] = field(default_factory=Counter)
    code: int | None = None
    left: list[int] = field(default_factory=list)
    traces: set[str] = field(default_factory=set)


@contextmanager
def balancing(stopping: Service, other: Service, statuses: Counter[int]) -> Iterator[None]:
    """While the block runs, callers ask the two through HAProxy, which has found both ready before."""
    with balanced([stopping.client.base_url.port or 0, other.client.base_url.port or 0, free_port()]) as url:
        until(lambda: ready(url), 2)

        def ask(_: int) -> None:
            with fresh(url) as client:
                statuses[client.post("/predict", content=PICTURE, headers=BINARY).status_code] += 1

        with repeated(ask, 2, pause=0.05):
            until(lambda: statuses.total() >= 20)
            yield
            until(lambda: ready(url), 1)
            seen = statuses.total()
            until(lambda: statuses.total() >= seen + 10)


def headers(trace: str) -> dict[str, str]:
    return BINARY | {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}


def refuses(service: Service) -> bool:
    try:
        return not service.get("/livez")
    except httpx.TransportError:
        return True


@pytest.fixture(scope="module")
def stopped(service: Service) -> Stopped:
    """It has two API processes, and one request is under way."""
    seen = Stopped()
    with Collector() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # so that spans are sent at the end
        with running_lightly(notice_seconds=NOTICE, api_processes=2, tracing=True) as stopping:
            caller = HTTPConnection("127.0.0.1", stopping.client.base_url.port, timeout=PATIENCE)
            caller.putrequest("POST", "/explain")
            for name, value in (headers(TRACES[0]) | {"Content-Length": str(len(PICTURE))}).items():
                caller.putheader(name, value)
            caller.endheaders(PICTURE[:100])
            with balancing(stopping, service, seen.balanced) if HAPROXY else nullcontext():
                stopping.process.send_signal(signal.SIGTERM)
                until(lambda: stopping.get("/readyz").status_code, 503)
                seen.ready, seen.live = (stopping.get(path).status_code for path in ("/readyz", "/livez"))
                posted = [stopping.post("/predict", content=PICTURE, headers=headers(trace)) for trace in TRACES[1:]]
                seen.late = [answer.status_code for answer in posted]
            until(lambda: refuses(stopping))
            caller.send(PICTURE[100:])
            seen.under_way = caller.getresponse().status
            caller.close()
            seen.code = stopping.process.wait(PATIENCE)
            processes = [pid for name in ("worker", "api") for pid in stopping.pids(name)]
            seen.left = [pid for pid in processes if Path(f"/proc/{pid}").exists()]
        seen.traces = {span.trace_id.hex() for span in collector.spans()}
    return seen


def test_it_is_not_ready_and_yet_answers_new_callers(stopped: Stopped):
    assert (stopped.ready, stopped.live, stopped.late) == (503, 200, [200] * 4)


def test_a_request_under_way_is_finished(stopped: Stopped):
    assert stopped.under_way == 200


@pytest.mark.skipif(HAPROXY is None, reason="there is no haproxy")
def test_no_request_through_a_load_balancer_fails(stopped: Stopped):
    assert set(stopped.balanced) == {200}


def test_every_process_ends(stopped: Stopped):
    assert (stopped.code, stopped.left) == (0, [])


def test_spans_that_are_left_are_sent_at_the_end(stopped: Stopped):
    assert stopped.traces >= set(TRACES)
