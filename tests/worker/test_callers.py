"""Who a worker remembers, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from gradcam_service.worker.callers import Callers
from gradcam_service.worker.messages import Hello, Managed, Request, Status, decode_reply, encode
from live import PATIENCE, until


class Caller:
    """An API process's end of the wire."""

    def __init__(self, address: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def hear(self) -> object:
        assert self.socket.poll(PATIENCE * 1000)
        return decode_reply(self.socket.recv())

    def leave(self) -> None:
        self.socket.close()


@pytest.fixture
def gone() -> list[bytes]:
    return []


@pytest.fixture
def callers(tmp_path: Path, gone: list[bytes]) -> Iterator[Callers]:
    opened = Callers(f"ipc://{tmp_path}/worker.sock", gone.append)
    yield opened
    opened.socket.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/worker.sock"


def requests(callers: Callers, count: int = 1) -> list[tuple[bytes, Request]]:
    """So many requests, as they arrive."""
    found: list[tuple[bytes, Request]] = []
    while len(found) < count:
        assert callers.socket.poll(PATIENCE * 1000)
        found += [(caller, request) for caller, request, _ in callers.requests()]
    return found


def greet(callers: Callers, address: str, session: int) -> tuple[Caller, bytes]:
    caller = Caller(address)
    caller.say(encode(Hello(session)))
    ((identity, request),) = requests(callers)
    assert request == Hello(session)
    callers.greeted(identity, session)
    return caller, identity


def test_each_caller_is_told_the_session_that_it_began(callers: Callers, address: str):
    one, _ = greet(callers, address, 3)
    other, _ = greet(callers, address, 8)
    callers.announce([], started=True)
    assert [one.hear(), other.hear()] == [Status(3, [], True), Status(8, [], True)]
    one.leave()
    other.leave()


def test_callers_come_and_go_and_only_those_that_are_there_are_remembered(
    callers: Callers, address: str, gone: list[bytes]
):
    left = []
    for session in range(50):  # as of an API process that dies again and again
        caller, identity = greet(callers, address, session)
        callers.announce([], started=True)
        caller.leave()
        left.append(identity)
    stays, identity = greet(callers, address, 50)

    def remembered() -> int:
        callers.announce([], started=True)
        return len(callers)

    until(remembered, 1)
    assert gone == left
    callers.reply(identity, Managed(7))
    while not isinstance(heard := stays.hear(), Managed):
        pass
    assert heard == Managed(7)
    stays.leave()


def test_an_answer_to_a_caller_that_is_gone_is_nobodys_and_says_so(callers: Callers, address: str, gone: list[bytes]):
    callers.reply(b"never there", Managed(1))
    assert gone == [b"never there"]


def test_rubbish_is_passed_over(callers: Callers, address: str):
    caller = Caller(address)
    caller.say(b"rubbish")
    caller.say(b"")
    caller.say(encode(Hello(1)))
    assert [request for _, request in requests(callers)] == [Hello(1)]
    caller.leave()
