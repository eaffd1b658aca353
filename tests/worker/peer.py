"""A worker's end of the wire, played by a test over a real ZeroMQ socket, in one event loop with the link to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import numpy as np
import zmq
import zmq.asyncio

from gradcam_service.registry.listing import Model
from gradcam_service.targets import Target
from gradcam_service.worker.link import WorkerLink
from gradcam_service.worker.messages import (
    Answer,
    Computed,
    Done,
    Hello,
    Job,
    Request,
    Status,
    Timings,
    decode_request,
    encode,
)
from live import PATIENCE

MODELS = [Model("a", "1", [], "ready")]
SCORES, MAPS = np.arange(3, dtype=np.float32), np.arange(8, dtype=np.float32).reshape(2, 2, 2)


class Peer:
    """A worker's end of the wire, which says what a test tells it to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = zmq.asyncio.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(address)
        self.caller = b""

    async def hear(self, kind: type[Request]) -> Request:
        """The next message, which must be of that kind."""
        async with asyncio.timeout(PATIENCE):
            self.caller, header, *_ = await self._socket.recv_multipart()
        heard = decode_request(header)
        assert isinstance(heard, kind), heard
        return heard

    async def hears_nothing(self) -> None:
        assert not await self._socket.poll(200)

    async def say(self, *frames: object) -> None:
        encoded = [frame if isinstance(frame, bytes) else encode(frame) for frame in frames]
        await self._socket.send_multipart([self.caller, *encoded])

    async def greet(self) -> int:
        """Answer a greeting; the session that it began."""
        hello = await self.hear(Hello)
        await self.say(Status(hello.session, MODELS, started=True))
        return hello.session

    async def begin_to_say(self, *frames: bytes) -> None:
        """Send frames and announce more that never come."""
        for frame in [self.caller, *frames]:
            await self._socket.send(frame, zmq.SNDMORE)

    def die(self) -> None:
        self._socket.close()


def linked(tmp_path: Path, play: Callable[[WorkerLink, Peer], Awaitable[None]], up: bool = True) -> None:
    """Play a scene between a link and its peer, which have greeted each other."""

    async def scene() -> None:
        peer = Peer(f"ipc://{tmp_path}/worker.sock")
        link = WorkerLink("cpu", peer.address, lambda: None)
        running = asyncio.create_task(link.run())
        try:
            if up:
                await peer.greet()
                await until(lambda: link.up)
            await play(link, peer)
            assert not running.done(), "the link has ended"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            peer.die()

    asyncio.run(scene())


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not look():
            await asyncio.sleep(0.005)


def ask(link: WorkerLink, seconds: float = PATIENCE) -> asyncio.Task[tuple[Answer, Timings]]:
    pixels = np.zeros((4, 4, 3), np.uint8)
    return asyncio.create_task(link.infer("a@1", "sha256:0", {"image": pixels}, None, monotonic() + seconds))


def done(job: Job, maps: tuple[int, ...] = MAPS.shape) -> Done:
    computed, targets = Computed("eager", "float32", "sha256:0"), (Target("class_", 0), Target("class_", 1))
    answer = Answer(SCORES, np.broadcast_to(MAPS[0, 0, 0], maps), computed, targets, "layer")
    return Done(job.id, Timings(0, 0, 0), answer)
