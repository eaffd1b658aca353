"""What the client sends again, after how long and until when, against a server that refuses, hangs up and hangs."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from gradcam_service.client import AsyncClient, Client, NoAnswer, Problem, Refused, TimedOut, Unavailable
from gradcam_service.client.tries import Tries
from live import closed_port

from .scripted import FINE, HANGS_UP, HANGS_UP_WITHIN, KEEPS_SILENT, TRICKLES, Says, busy, scripted

Ask = Callable[..., list[Any]]


def waiting(url: str, calls: int = 1, **settings: Any) -> list[Any]:
    """What the client that waits answers to as many calls."""
    with Client(url, **settings) as client:
        return [client.models() for _ in range(calls)]


def awaiting(url: str, calls: int = 1, **settings: Any) -> list[Any]:
    """The same of the other one."""

    async def ask() -> list[Any]:
        async with AsyncClient(url, **settings) as client:
            return [await client.models() for _ in range(calls)]

    return asyncio.run(ask())


@pytest.fixture(params=[waiting, awaiting])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param


@pytest.mark.parametrize("trouble", [busy(429), busy(503), Says(502, body=b"<html>"), HANGS_UP, HANGS_UP_WITHIN])
def test_what_may_work_the_next_time_is_sent_again(ask: Ask, trouble: Says | str):
    with scripted([trouble, trouble, FINE]) as server:
        assert ask(server.url) == [[]]
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 504])
def test_what_would_fail_again_is_not(ask: Ask, status: int):
    with scripted([busy(status), FINE]) as server, pytest.raises(Problem) as raised:
        ask(server.url)
    assert len(server.requests) == 1
    assert type(raised.value) is (Refused if status < 500 else Unavailable)
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (status, "queue_full", "abc")
    assert str(raised.value) == "the queue is full (queue_full, request abc)"


def test_a_pause_is_as_long_as_the_service_says_or_longer(ask: Ask):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    with scripted([busy(429, "1"), busy(503, later), FINE]) as server:
        ask(server.url)
        first, second, third = (request.at for request in server.requests)
    assert second - first >= 1
    assert third - first >= 2  # the date has whole seconds


def test_pauses_grow_and_callers_who_were_refused_together_have_different_ones():
    every: list[list[float]] = []
    for _ in range(20):
        tries, pauses = Tries(httpx.URL("http://localhost"), 60, 4), []
        for _ in range(4):
            with tries.another():
                raise Unavailable(503, "not_ready", "")
            pauses.append(tries.pause)
        assert all(0.125 * 2**n <= pause <= 0.25 * 2**n for n, pause in enumerate(pauses))
        every.append(pauses)
    assert len({tuple(pauses) for pauses in every}) == 20


def test_it_gives_up_after_as_many_as_may_be_sent(ask: Ask):
    with scripted([busy()] * 9) as server, pytest.raises(Unavailable, match="the queue is full"):
        ask(server.url, retries=1)
    assert len(server.requests) == 2
    with scripted([HANGS_UP] * 9) as server, pytest.raises(NoAnswer, match="connection"):
        ask(server.url, retries=0)
    assert len(server.requests) == 1


def test_a_pause_that_would_outlast_the_call_is_not_waited_for(ask: Ask):
    with scripted([busy(503, "3600")]) as server, pytest.raises(Unavailable) as raised:
        ask(server.url)
    assert raised.value.retry_after == 3600


@pytest.mark.parametrize("trouble", [KEEPS_SILENT, TRICKLES])
def test_the_time_is_that_of_the_whole_call(ask: Ask, trouble: str):
    with scripted([busy(), trouble, FINE]) as server, pytest.raises(TimedOut) as raised:
        ask(server.url.replace("://", "://me:secret@"), timeout=2)
    assert str(raised.value) == f"{server.url}: no answer within 2 s"
    assert len(server.requests) == 2


def test_that_nobody_listens_is_an_error_of_the_system_too(ask: Ask):
    with closed_port() as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"^http://{at}: the connection failed") as raised:
            ask(f"http://me:secret@{at}/behind/a/proxy", retries=1)
    assert isinstance(raised.value, NoAnswer)
    assert "secret" not in str(raised.value)


def test_calls_share_a_connection(ask: Ask):
    with scripted([FINE] * 5) as server:
        assert ask(server.url, calls=5) == [[]] * 5
        assert (len(server.requests), server.connections) == (5, 1)


def test_the_key_is_sent_that_is_given_or_in_the_environment(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADCAM_API_KEY", "of-the-environment")
    with scripted([FINE] * 3) as server:
        ask(server.url)
        ask(server.url, key="given")
        ask(server.url, key="of-a-file\n")
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer of-the-environment", "Bearer given", "Bearer of-a-file"]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "\0"])
def test_a_key_that_no_header_takes_is_refused_at_once_and_not_told(ask: Ask, key: str):
    with pytest.raises(ValueError, match="the API key has characters that none has") as raised:
        ask("http://localhost", key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"\xff"])
def test_what_is_no_answer_of_the_service_is_said_to_be_none(ask: Ask, body: bytes):
    with scripted([Says(200, body=body)]) as server, pytest.raises(Refused, match="no answer of a gradcam service"):
        ask(server.url)


def test_an_error_page_of_somebody_else_is_told_in_short(ask: Ask):
    with scripted([Says(403, body=b"<h1>Keep\n out</h1>" + b"." * 9999)]) as server, pytest.raises(Refused) as raised:
        ask(server.url)
    assert raised.value.code == "http"
    assert str(raised.value).startswith("status 403: <h1>Keep out</h1>...")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("url", ["localhost:8000", "localhost", "ftp://localhost", "http://", "http://a:b", ""])
def test_what_is_no_address_is_refused_at_once(url: str):
    with pytest.raises(ValueError, match="is no address"):
        Client(url)


def test_a_prefix_in_the_address_stays():
    with scripted([FINE]) as server:
        waiting(f"{server.url}/behind/a/proxy/")
    assert server.requests[0].path == "/behind/a/proxy/models"


def test_errors_travel_between_processes():
    error = Unavailable(429, "queue_full", "the queue is full", "abc", 1.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.retry_after) == (str(error), 1.0)
