"""Puts requests to a server: as fast as it answers, or as they come.

With the standard library alone, since on the same machine a client's cost is the server's loss.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from queue import SimpleQueue
from time import perf_counter, sleep
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """What is asked, again and again.

    Attributes:
        url: of the server and the endpoint.
        body: of the media type ``kind``.
    """

    url: str
    body: bytes
    kind: str = "image/jpeg"


@dataclass
class Answers:
    """What came of it.

    Attributes:
        seconds: how long everything took.
        latencies: in seconds, by status.
    """

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)

    def note(self, status: int, latency: float) -> None:
        """One answer."""
        self.latencies.setdefault(status, []).append(latency)

    def rate(self, status: int = 200) -> float:
        """Answers of that status a second."""
        return len(self.latencies.get(status, [])) / self.seconds

    def percentile(self, share: float, status: int = 200) -> float:
        """What so many of the answers of that status took at most, in seconds."""
        ordered = sorted(self.latencies[status])
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Connection:
    """Stays open while the server lets it."""

    def __init__(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self._request = request
        self._target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._http = HTTPConnection(parts.hostname or "", parts.port, timeout=120)

    def ask(self) -> int:
        """The status of the answer, once it is whole."""
        try:
            return self._ask()
        except ConnectionError:  # the server has closed it meanwhile, as it may
            self._http.close()
            return self._ask()

    def _ask(self) -> int:
        self._http.request("POST", self._target, self._request.body, {"Content-Type": self._request.kind})
        with self._http.getresponse() as response:
            response.read()
        return response.status


def one_by_one(request: Request, connections: int, count: int) -> Answers:
    """Each connection asks as soon as it has been answered, until there are ``count`` answers."""
    answers, tickets = Answers(), iter(range(count))

    def ask() -> None:
        connection = _Connection(request)
        for _ in tickets:
            start = perf_counter()
            answers.note(connection.ask(), perf_counter() - start)

    start = perf_counter()
    _joined(_started(ask, connections))
    answers.seconds = perf_counter() - start
    return answers


def as_they_come(request: Request, rate: float, seconds: float, connections: int = 200) -> Answers:
    """Requests come at random moments, ``rate`` a second, whether or not others have been answered.

    A request's latency counts from the moment that it was to be sent.
    """
    answers, due, chance = Answers(), SimpleQueue[float | None](), random.Random(0)

    def ask() -> None:
        connection = _Connection(request)
        while (moment := due.get()) is not None:
            status = connection.ask()
            answers.note(status, perf_counter() - moment)

    threads = _started(ask, connections)
    start = moment = perf_counter()
    while (moment := moment + chance.expovariate(rate)) < start + seconds:
        sleep(max(0.0, moment - perf_counter()))
        due.put(moment)
    for _ in threads:
        due.put(None)
    _joined(threads)
    answers.seconds = perf_counter() - start
    return answers


def _started(target: Callable[[], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
