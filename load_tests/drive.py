"""Puts requests to a server: as fast as it answers, or as they come.

With the standard library alone, since on the same machine a client's cost is the server's loss.
"""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import perf_counter, sleep
from typing import Protocol
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """What is asked, again and again.

    Attributes:
        url: of the server and the endpoint.
        body: of the media type ``kind``.
        headers: lines of the head besides.
    """

    url: str
    body: bytes
    kind: str = "image/jpeg"
    headers: Sequence[str] = ()


@dataclass
class Answers:
    """What came of it.

    Attributes:
        seconds: how long it took to get these answers.
        latencies: in seconds, by status.
    """

    seconds: float = 0.0
    latencies: dict[int, list[float]] = field(default_factory=dict)

    def note(self, status: int, latency: float) -> None:
        """One answer."""
        self.latencies.setdefault(status, []).append(latency)

    def add(self, more: Answers) -> None:
        """Count what came of asking another time, too."""
        self.seconds += more.seconds
        for status, latencies in more.latencies.items():
            self.latencies.setdefault(status, []).extend(latencies)

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
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        head = f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {request.kind}\r\n"
        head += "".join(f"{line}\r\n" for line in request.headers)
        self._message = f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body
        self._address = (parts.hostname, parts.port)
        self._open()

    def ask(self) -> int:
        """The status of the answer, once it is whole."""
        try:
            return self._ask()
        except ConnectionError:  # the server has closed it meanwhile, as it may
            self._socket.close()
            self._open()
            return self._ask()

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=120)

    def _ask(self) -> int:
        self._socket.sendall(self._message)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._received()
        length = re.search(rb"(?i)content-length: *(\d+)", answer[:end])
        if length is None:  # a large one comes in chunks, of which an empty one is the last
            while not answer.endswith(b"\r\n0\r\n\r\n"):
                answer += self._received()
            return int(answer[9:12])
        missing = end + 4 + int(length[1]) - len(answer)
        while missing > 0:
            missing -= len(self._received())
        return int(answer[9:12])

    def _received(self) -> bytes:
        if part := self._socket.recv(2**18):
            return part
        raise ConnectionResetError("closed before the answer was whole")


class Connection(Protocol):
    """A connection to a server, by whatever protocol."""

    def ask(self) -> int:
        """The status of the answer, once it is whole."""


def one_by_one(
    request: Request, connections: int, count: int, connect: Callable[[Request], Connection] = _Connection
) -> Answers:
    """Each connection asks as soon as it has been answered, until there are ``count`` answers."""
    answers, tickets = Answers(), iter(range(count))

    def ask() -> None:
        connection = connect(request)
        for _ in tickets:
            start = perf_counter()
            answers.note(connection.ask(), perf_counter() - start)

    start = perf_counter()
    _joined(_started(ask, connections))
    answers.seconds = perf_counter() - start
    return answers


def as_they_come(request: Request, rate: float, seconds: float, connections: int = 200) -> Answers:
    """Requests come at random moments, ``rate`` a second, whether or not others have been answered.

    A request's latency counts from the moment that it was to be sent. What is answered when no more of them come is not
    counted.
    """
    answers, due = Answers(), SimpleQueue[float | None]()

    def ask() -> None:
        connection = _Connection(request)
        while (moment := due.get()) is not None:
            status = connection.ask()
            answers.note(status, perf_counter() - moment)

    threads = _started(ask, connections)
    start = perf_counter()
    for moment in moments(rate, seconds):
        sleep(max(0.0, start + moment - perf_counter()))
        due.put(start + moment)
    meanwhile = Answers(perf_counter() - start, {code: list(taken) for code, taken in dict(answers.latencies).items()})
    for _ in threads:
        due.put(None)
    _joined(threads)
    return meanwhile


def one_after_the_other(each: float, rate: float, seconds: float) -> Answers:
    """The same arrivals, if each request took the server ``each`` seconds, and nothing else cost anything."""
    answers, free = Answers(seconds), 0.0
    for moment in moments(rate, seconds):
        free = max(free, moment) + each
        answers.note(200, free - moment)
    return answers


def moments(rate: float, seconds: float) -> Iterator[float]:
    """When requests come, in seconds from the start: at random, and the same every time."""
    chance, moment = random.Random(0), 0.0
    while (moment := moment + chance.expovariate(rate)) < seconds:
        yield moment


def _started(target: Callable[[], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=target, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
