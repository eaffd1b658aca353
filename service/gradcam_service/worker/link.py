"""The way to one worker, for an asyncio process. Torch-free."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from time import monotonic

import msgspec
import numpy as np
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from gradcam_service.errors import DeadlineExceeded, ServiceError, WorkerLost, from_code
from gradcam_service.worker.in_flight_log import last_entry
from gradcam_service.worker.messages import (
    Answer,
    Cancel,
    Done,
    Failed,
    Hello,
    Job,
    Load,
    Managed,
    Question,
    Request,
    Rescan,
    Status,
    Timings,
    Unload,
    decode_reply,
    encode,
)

log = logging.getLogger(__name__)

_Reply = tuple[Answer, Timings] | None


class WorkerLink:
    """One worker, as one API process knows it.

    Args:
        address: ZeroMQ address of the worker.
        changed: called when the worker has come, gone, or told its status.

    Attributes:
        up: whether the worker is connected and has told its `status`.
        status: its device and models, as last told.
    """

    def __init__(self, address: str, changed: Callable[[], None]) -> None:
        self._address = address
        self._changed = changed
        self._identity = uuid.uuid4().hex.encode()  # which the worker writes into its in-flight log
        context = zmq.asyncio.Context.instance()
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, self._identity)
        self._socket.set_hwm(0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # what a dead worker did not receive is not for the next one
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)  # ms
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)
        self._pending: dict[int, asyncio.Future[_Reply]] = {}
        self._ids = itertools.count()
        self.up = False
        self.status = Status("", [], started=False)

    def has(self, model: str, digest: str | None = None) -> bool:
        """Whether ``name@version`` is ready on this worker, and is the one with that digest where one is given."""
        return any(
            known.key == model and known.state == "ready" and (digest is None or known.card_digest == digest)
            for known in self.status.models
        )

    @property
    def outstanding(self) -> int:
        """Jobs sent and not yet answered."""
        return len(self._pending)

    async def run(self) -> None:
        """Receive until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._watch())
        finally:
            self._socket.disable_monitor()
            self._socket.close()

    async def infer(
        self,
        model: str,
        digest: str,
        pixels: np.ndarray,
        question: Question | None,
        deadline: float,
        alone: bool = False,
    ) -> tuple[Answer, Timings]:
        """Have one image predicted, and explained where asked.

        Args:
            model: ``name@version``, ready on this worker.
            digest: of that model.
            pixels: (H, W, 3) uint8, the model's input size.
            question: None for scores only.
            deadline: CLOCK_MONOTONIC seconds.
            alone: in a batch of its own.

        Raises:
            ModelLoading: it is another one by now, or none.
            DeadlineExceeded, WorkerLost, ServiceError: as the worker says.
        """
        height, width, channels = pixels.shape
        job = Job(next(self._ids), model, digest, (height, width, channels), deadline, monotonic(), question, alone)
        answer = await self._ask(job, deadline, np.ascontiguousarray(pixels))
        assert answer is not None
        return answer

    async def load(self, model: str, deadline: float, again: bool = False) -> None:
        """Have a model loaded; returns when it is ready.

        Raises:
            ModelFailed, DeadlineExceeded, WorkerLost: it isn't.
        """
        await self._ask(Load(next(self._ids), model, again), deadline)

    async def unload(self, model: str, deadline: float) -> None:
        """Have a model forgotten."""
        await self._ask(Unload(next(self._ids), model), deadline)

    async def rescan(self, deadline: float) -> None:
        """Have the repositories looked at.

        Raises:
            ModelFailed: they can't be read.
        """
        await self._ask(Rescan(next(self._ids)), deadline)

    async def _ask(self, request: Job | Load | Unload | Rescan, deadline: float, *frames: np.ndarray) -> _Reply:
        future: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._pending[request.id] = future
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await self._send(request, *frames)
                return await future
        except TimeoutError:
            raise DeadlineExceeded(
                "not done before the deadline; a larger timeout_ms or less load would help"
            ) from None
        finally:
            del self._pending[request.id]
            if not future.done() or future.cancelled():
                await self._send(Cancel(request.id))

    async def _send(self, request: Request, *frames: np.ndarray) -> None:
        await self._socket.send_multipart([encode(request), *(frame.data for frame in frames)], copy=False)

    async def _receive(self) -> None:
        while True:
            header, *frames = await self._socket.recv_multipart()
            match decode_reply(header):
                case Status() as status:
                    self.status, self.up = status, True
                    self._changed()
                case Done() as done:
                    self._resolve(done.id, _answer(done, frames))
                case Managed(id=request_id):
                    self._resolve(request_id, None)
                case Failed() as failed:
                    self._resolve(failed.id, from_code(failed.code, failed.detail))

    def _resolve(self, request_id: int, result: _Reply | ServiceError) -> None:
        future = self._pending.get(request_id)
        if future is None or future.done():  # nobody waits any more
            return
        if isinstance(result, ServiceError):
            future.set_exception(result)
        else:
            future.set_result(result)

    async def _watch(self) -> None:
        """Notice at once when the worker comes and goes: its socket does."""
        while True:
            event = await recv_monitor_message(self._monitor)
            if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                await self._send(Hello())
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._lost()

    def _lost(self) -> None:
        log.warning("worker lost", extra={"fields": {"device": self.status.device, "jobs": self.outstanding}})
        self.up = False
        models = [msgspec.structs.replace(model, state="unloaded", card=None) for model in self.status.models]
        self.status = Status(self.status.device, models, started=False)
        self._changed()
        begun = last_entry(self._address)
        for request_id in list(self._pending):
            step = begun.step if (self._identity, request_id) in begun.jobs else None
            self._resolve(request_id, WorkerLost("the worker died while it held the job; it is being restarted", step))


def _answer(done: Done, frames: Sequence[bytes]) -> tuple[Answer, Timings]:
    scores, maps = (np.frombuffer(frame, np.float32) for frame in frames)
    return Answer(scores, done.targets, done.layer, maps.reshape(done.maps)), done.timings
