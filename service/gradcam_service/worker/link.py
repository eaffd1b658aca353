"""Link to one worker, for an asyncio process. Torch-free."""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import cast

import msgspec
import numpy as np
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from gradcam_service.errors import DeadlineExceeded, Internal, ServiceError, WorkerLost, from_code
from gradcam_service.question import Question
from gradcam_service.worker.in_flight_log import has_crashed, last_entry
from gradcam_service.worker.messages import (
    Answer,
    Cancel,
    Done,
    Dtype,
    Failed,
    Hello,
    Inputs,
    Job,
    Load,
    Managed,
    Request,
    Rescan,
    Status,
    TensorSpec,
    Timings,
    Unload,
    decode_reply,
    encode,
)

log = logging.getLogger(__name__)

_Reply = tuple[Answer, Timings] | None


class WorkerLink:
    """Link to one worker: what an API process knows of it.

    Args:
        name: of the worker: its device, and which of that device's workers it is where there are several.
        address: ZeroMQ address of the worker.
        changed: called when the worker has come, gone, or told its status.

    Attributes:
        name: as given.
        up: whether the worker is connected and has told its `status`.
        status: its models, as last told.
        used: when a job was last sent to it, CLOCK_MONOTONIC seconds.
    """

    def __init__(self, name: str, address: str, changed: Callable[[], None]) -> None:
        self.name = name
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
        self._session = 0
        self.up = False
        self.status = Status(self._session, [], started=False)
        self.used = 0.0

    def has(self, model: str, digest: str | None = None) -> bool:
        """Whether ``name@version`` is ready on this worker, and is the one with that digest where one is given."""
        return any(
            known.key == model and known.state == "ready" and (digest is None or known.card_digest == digest)
            for known in self.status.models
        )

    @property
    def outstanding(self) -> int:
        """Requests sent and not yet answered."""
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
        inputs: Inputs,
        question: Question | None,
        deadline: float,
        alone: bool = False,
    ) -> tuple[Answer, Timings]:
        """Have one image predicted, and explained where asked.

        Args:
            model: ``name@version``, ready on this worker.
            digest: of that model.
            inputs: by name, as the model's kind of input prepares them.
            question: None for scores only.
            deadline: CLOCK_MONOTONIC seconds.
            alone: in a batch of its own.

        Raises:
            ModelLoading: it is another one by now, or none.
            NeedsFullModel: its compiled form alone is there, and can't answer this.
            DeadlineExceeded, WorkerLost, ServiceError: as the worker says.
        """
        frames = {name: np.asarray(values, order="C") for name, values in inputs.items()}  # a number stays one
        specs = {name: TensorSpec(cast("Dtype", values.dtype.name), values.shape) for name, values in frames.items()}
        self.used = monotonic()
        job = Job(next(self._ids), model, digest, specs, deadline, self.used, question, alone)
        answer = await self._ask(job, deadline, *frames.values())
        if answer is None:
            raise Internal("the worker took a job for something else")
        return answer

    async def load(self, model: str, deadline: float, again: bool = False, whole: bool = False) -> None:
        """Have a model loaded, and where ``whole`` not its compiled form alone; returns when it is ready.

        Raises:
            ModelFailed, DeadlineExceeded, WorkerLost: it isn't.
        """
        await self._ask(Load(next(self._ids), model, again, whole), deadline)

    async def unload(self, model: str, deadline: float) -> None:
        """Have a model forgotten."""
        await self._ask(Unload(next(self._ids), model), deadline)

    async def rescan(self, deadline: float) -> None:
        """Have the repositories scanned.

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
            raise DeadlineExceeded("not done before the deadline; a longer timeout or less load would help") from None
        finally:
            if self._pending.pop(request.id, None) is not None:  # no answer came, so somebody may be at it still
                with suppress(WorkerLost):
                    await self._send(Cancel(request.id))

    async def _send(self, request: Request, *frames: np.ndarray) -> None:
        """Hand a message to the worker that is connected now: it is not kept for one that will be.

        Raises:
            WorkerLost: there is none.
        """
        message = [encode(request), *(frame.data for frame in frames)]
        try:
            # Has libzmq take note of a connection made just now, which it does by itself only every millisecond or so.
            self._socket.get(zmq.EVENTS)
            await self._socket.send_multipart(message, zmq.NOBLOCK)
        except zmq.ZMQError:  # nobody is connected, or this process ends and has closed the socket
            if self.up:
                self._lost()
            raise WorkerLost("the worker is gone; it is being restarted") from None

    async def _receive(self) -> None:
        while True:
            header, *frames = await self._socket.recv_multipart()
            try:
                reply = decode_reply(header)
            except msgspec.DecodeError as error:
                log.error("worker can't be understood", extra={"fields": {"device": self.name, "reason": str(error)}})
                self._lost()
                await self._greet()
                continue
            if not isinstance(reply, Status):
                self._resolve(reply.id, _result(reply, frames))
            elif reply.session == self._session:
                self.status, self.up = reply, True
                self._changed()

    def _resolve(self, request_id: int, result: _Reply | ServiceError) -> None:
        future = self._pending.pop(request_id, None)
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
                await self._greet()
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._lost()

    async def _greet(self) -> None:
        """Begin anew with the worker that is connected now; its status is the answer."""
        self._session += 1
        with suppress(WorkerLost):  # then another one comes
            await self._send(Hello(self._session))

    def _lost(self) -> None:
        begun, crashed = last_entry(self._address), has_crashed(self._address)
        fields = {"device": self.name, "jobs": self.outstanding, "crashed": crashed}
        log.warning("worker lost", extra={"fields": fields})
        self.up = False
        models = [msgspec.structs.replace(model, state="unloaded", card=None) for model in self.status.models]
        self._session += 1
        self.status = Status(self._session, models, started=False)
        self._changed()
        overlong = begun.longest if monotonic() - begun.begun > begun.longest else None
        for request_id, future in self._pending.items():
            step = begun.step if (self._identity, request_id) in begun.jobs else None
            if not future.done():
                held = "the worker died while it held the job; it is being restarted"
                future.set_exception(WorkerLost(held, step, crashed, overlong))
                future.exception()  # is read now, since who finds nobody to send to waits for no answer


def _result(reply: Done | Managed | Failed, frames: Sequence[bytes]) -> _Reply | ServiceError:
    match reply:
        case Done():
            try:
                return reply.answer.filled(frames), reply.timings
            except ValueError as error:
                log.error("answer can't be read", extra={"fields": {"reason": str(error)}})
                return Internal("the worker's answer can't be read; its log may have the reason")
        case Managed():
            return None
        case Failed():
            return from_code(reply.code, reply.detail)
