"""The worker process: owns one device, answers jobs in batches."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import signal
import sys
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from queue import SimpleQueue
from time import monotonic, perf_counter

import msgspec
import numpy as np
import torch
import zmq
from tqdm import tqdm

from gradcam_service import logs, metrics
from gradcam_service.errors import (
    DeadlineExceeded,
    Internal,
    ModelFailed,
    ModelLoading,
    OutOfMemory,
    ServiceError,
    UnknownModel,
)
from gradcam_service.kinds import load_plugins
from gradcam_service.settings import Settings
from gradcam_service.worker import engine, memory
from gradcam_service.worker.heartbeat import Heartbeat
from gradcam_service.worker.in_flight_log import InFlightLog
from gradcam_service.worker.messages import (
    Answer,
    Cancel,
    Done,
    Failed,
    Hello,
    Job,
    Load,
    Managed,
    Reply,
    Rescan,
    Status,
    Timings,
    Unload,
    decode_request,
    encode,
)
from gradcam_service.worker.models import ModelTable
from gradcam_service.worker.poller import RepositoryPoller, Snapshot
from gradcam_service.worker.queue import JobQueue, Waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pending:
    """A job whose explanation is being worked out, the time it has taken so far, and its steps."""

    waiting: Waiting
    explanation: engine.Pending
    timings: Timings
    steps: int = 1


class Worker:
    """Receives, runs a batch, takes a step of an expensive explanation, replies, and again.

    One thread, so that a batch is what arrived during the last one.

    Args:
        address: ZeroMQ address to bind.
        device: ``cpu`` or ``cuda:N``.
        settings: where the models are.
    """

    def __init__(self, address: str, device: str, settings: Settings) -> None:
        self._device = torch.device(device)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # says which callers are gone
        self._socket.set_hwm(0)  # the API's permits bound what is under way; nothing may be dropped here
        self._socket.bind(address)
        self._in_flight_log = InFlightLog(address)
        self._wakeup = context.socket(zmq.PULL)
        self._wakeup.bind("inproc://wakeup")
        wake = _waker(context)
        self._models = ModelTable(self._device, settings, wake)
        metrics.DEVICE_MEMORY_TOTAL.labels(str(self._device)).set(memory.total(self._device))
        self._snapshots: SimpleQueue[Snapshot | ModelFailed] = SimpleQueue()
        self._snapshot_taken = False  # before that, nobody is told that there are no models

        def tell(snapshot: Snapshot | ModelFailed) -> None:
            self._snapshots.put(snapshot)
            wake()

        self.poller = RepositoryPoller(settings.model_repository, settings.poll_seconds, tell)
        self._max_forward_passes = settings.max_forward_passes
        self._queue = JobQueue()
        self._pending: OrderedDict[tuple[bytes, int], _Pending] = OrderedDict()
        self._callers: dict[bytes, int] = {}  # and the session of each
        self._waiting_loads: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
        self._waiting_rescans: list[tuple[bytes, int]] = []
        self._turn = inf  # when it began, CLOCK_MONOTONIC seconds

    def seconds_busy(self) -> float:
        """How long the present turn of the loop has taken; negative while it waits for work."""
        return monotonic() - self._turn

    def run(self) -> None:
        """Serve until killed, or until the process that started this one is gone."""
        parent = multiprocessing.parent_process()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        if parent is not None:
            poller.register(parent.sentinel, zmq.POLLIN)
        self.poller.start()
        while True:
            self._turn = inf
            ready = dict(poller.poll(timeout=0 if self._queue or self._pending else None))
            self._turn = monotonic()
            if parent is not None and parent.sentinel in ready:
                return
            self._receive_all()
            self._run_batch()
            self._advance()
            metrics.QUEUE_DEPTH.labels(str(self._device)).set(len(self._queue))

    def _receive_all(self) -> None:
        while self._wakeup.poll(0):
            self._wakeup.recv()
            self._models_changed()
        while self._socket.poll(0):
            caller, header, *frames = self._socket.recv_multipart(copy=False)
            self._receive(caller.bytes, header.buffer, frames)

    def _receive(self, caller: bytes, header: memoryview, frames: Sequence[zmq.Frame]) -> None:
        match decode_request(header):
            case Hello(session=session):
                self._callers[caller] = session
                if self._snapshot_taken:
                    self._announce()
            case Job() as job:
                self._queue_job(caller, job, frames[0])
            case Cancel(id=job_id):
                self._queue.cancel(caller, job_id)
                self._pending.pop((caller, job_id), None)
            case Load() as load:
                self._load(caller, load)
            case Unload() as unload:
                self._unload(caller, unload)
            case Rescan(id=request_id):
                self._waiting_rescans.append((caller, request_id))
                self.poller.rescan()

    def _queue_job(self, caller: bytes, job: Job, frame: zmq.Frame) -> None:
        model = self._models.find(job.model, job.digest)
        if model is None:
            self._fail(caller, job.id, ModelLoading(f"model {job.model} has been replaced or unloaded; try again"))
            return
        pixels = np.frombuffer(frame.buffer, np.uint8).reshape(job.shape)
        self._queue.put(Waiting(caller, job, pixels, model))

    def _load(self, caller: bytes, load: Load) -> None:
        try:
            under_way = self._models.load(load.model, load.again)
        except (UnknownModel, ModelFailed) as error:
            self._fail(caller, load.id, error)
            return
        if under_way:
            self._waiting_loads[load.model].append((caller, load.id))
            self._announce()
        else:
            self._reply(caller, Managed(load.id))

    def _unload(self, caller: bytes, unload: Unload) -> None:
        try:
            self._models.unload(unload.model)
        except UnknownModel as error:
            self._fail(caller, unload.id, error)
            return
        self._announce()
        self._reply(caller, Managed(unload.id))

    def _models_changed(self) -> None:
        """Something was loaded or the repositories have been looked at: tell everybody, then those who wait for it."""
        snapshots: list[Snapshot | ModelFailed] = []
        while not self._snapshots.empty():
            snapshots.append(self._snapshots.get())
        for snapshot in snapshots:
            if isinstance(snapshot, Snapshot):
                self._models.apply(snapshot)
                self._snapshot_taken = True
        if self._snapshot_taken:
            self._models.collect()
            self._announce()
        if snapshots:
            waiting, self._waiting_rescans = self._waiting_rescans, []
            for caller, request_id in waiting:
                self._conclude(caller, request_id, snapshots[-1] if isinstance(snapshots[-1], ModelFailed) else None)
        for key in [key for key in self._waiting_loads if not self._models.is_loading(key)]:
            failure = self._models.failure(key)
            error = ModelFailed(f"model {key} can't be loaded: {failure}") if failure else None
            for caller, request_id in self._waiting_loads.pop(key):
                self._conclude(caller, request_id, error)

    def _conclude(self, caller: bytes, request_id: int, error: ServiceError | None) -> None:
        if error is None:
            self._reply(caller, Managed(request_id))
        else:
            self._fail(caller, request_id, error)

    def _run_batch(self) -> None:
        """Run the jobs that go together with the one that waited longest."""
        for late in self._queue.drop_expired(monotonic()):
            self._fail(late.caller, late.job.id, DeadlineExceeded("the deadline passed while the image was queued"))
        if batch := self._queue.take():
            self._attempt(batch)

    def _attempt(self, batch: list[Waiting]) -> None:
        """Answer a batch; if it fails, each of its jobs alone, so that only the one at fault does.

        One for which there isn't memory is halved.
        """
        try:
            self._answer(batch)
            return
        except Exception as error:  # whatever a batch does, its callers get an answer and the log gets the reason
            log.exception("batch failed", extra={"fields": {"model": batch[0].job.model, "images": len(batch)}})
            if len(batch) == 1:
                self._fail(batch[0].caller, batch[0].job.id, _as_service_error(error))
            self._end_process_if_device_lost()
            part = (len(batch) + 1) // 2 if memory.was_lacking(error) else 1
        # What the failed attempt held is free only when its exception is gone.
        if len(batch) > 1:
            memory.give_back(self._device)
            for start in range(0, len(batch), part):
                self._attempt(batch[start : start + part])

    def _end_process_if_device_lost(self) -> None:
        """After some faults CUDA fails for ever; then this raises, and the supervisor starts another worker."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _answer(self, batch: list[Waiting]) -> None:
        taken = monotonic()
        self._in_flight_log.write(((waiting.caller, waiting.job.id) for waiting in batch), step=0)
        pixels, questions = [waiting.pixels for waiting in batch], [waiting.job.question for waiting in batch]
        result = engine.run(batch[0].model, pixels, questions, self._max_forward_passes)
        metrics.BATCH_SIZE.labels(batch[0].job.model.partition("@")[0]).observe(len(batch))
        metrics.DEVICE_MEMORY.labels(str(self._device)).set(memory.held(self._device))
        for waiting, answer in zip(batch, result.answers, strict=True):
            backward = result.backward if waiting.job.question else 0.0
            timings = Timings(taken - waiting.job.sent, result.forward, backward)
            if isinstance(answer, ServiceError):
                self._fail(waiting.caller, waiting.job.id, answer)
            elif isinstance(answer, engine.Pending):
                self._pending[waiting.caller, waiting.job.id] = _Pending(waiting, answer, timings)
            else:
                self._done(waiting, answer, timings)

    def _advance(self) -> None:
        """Take one step of the expensive explanation that waited longest, then let others have their turn."""
        if not self._pending:
            return
        place, work = self._pending.popitem(last=False)
        caller, job_id = place
        if work.waiting.job.deadline <= monotonic():
            self._fail(caller, job_id, DeadlineExceeded("the deadline passed before the explanation was worked out"))
            return
        start = perf_counter()
        self._in_flight_log.write([place], work.steps)
        try:
            answer = work.explanation.advance()
        except Exception as error:  # whatever a method does, its caller gets an answer and the log gets the reason
            log.exception("explanation failed", extra={"fields": {"model": work.waiting.job.model}})
            self._fail(caller, job_id, _as_service_error(error))
            self._end_process_if_device_lost()
            return
        timings = msgspec.structs.replace(work.timings, backward=work.timings.backward + perf_counter() - start)
        if answer is None:
            self._pending[place] = replace(work, timings=timings, steps=work.steps + 1)
        else:
            self._done(work.waiting, answer, timings)

    def _done(self, waiting: Waiting, answer: Answer, timings: Timings) -> None:
        done = Done(waiting.job.id, timings, answer.targets, answer.layer, answer.maps.shape)
        self._reply(waiting.caller, done, answer.scores, np.ascontiguousarray(answer.maps))

    def _announce(self) -> None:
        models, started = self._models.status(), self._models.started
        for caller, session in list(self._callers.items()):
            self._reply(caller, Status(session, models, started))

    def _fail(self, caller: bytes, request_id: int, error: ServiceError) -> None:
        self._reply(caller, Failed(request_id, error.code, error.detail))

    def _reply(self, caller: bytes, reply: Reply, *frames: np.ndarray) -> None:
        try:
            self._socket.send_multipart([caller, encode(reply), *(frame.data for frame in frames)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._forget(caller)

    def _forget(self, caller: bytes) -> None:
        """Let go of what an API process asked for that is gone."""
        self._callers.pop(caller, None)
        self._queue.forget(caller)
        for place in [place for place in self._pending if place[0] == caller]:
            del self._pending[place]


def _waker(context: zmq.Context[zmq.Socket[bytes]]) -> Callable[[], None]:
    """A function for other threads that wakes the worker's loop."""

    def wake() -> None:
        with context.socket(zmq.PUSH) as socket:
            socket.connect("inproc://wakeup")
            socket.send(b"")

    return wake


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if memory.was_lacking(error):
        return OutOfMemory("the device has no memory for this, even alone; fewer targets or another method would help")
    return Internal("the model failed on this batch; the worker's log has the reason")


def main(address: str, device: str, settings: Settings, heartbeat: Heartbeat) -> None:
    """Entry point of the process. SIGHUP has it look at the model repositories."""
    logs.configure(settings.log_level)
    load_plugins(settings.plugins)
    tqdm.set_lock(threading.RLock())  # its own, which torch makes it create, is a semaphore that outlives the process
    sys.setswitchinterval(0.00005)  # seconds; so long each operator of a batch waits for a thread that loads a model
    gc.freeze()  # what has been imported stays; unloading a model need not look through it
    worker = Worker(address, device, settings)
    heartbeat.beat_while(worker.seconds_busy)
    signal.signal(signal.SIGHUP, lambda *_: worker.poller.rescan())
    worker.run()
