"""The worker process: owns one device, answers jobs in batches."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import msgspec
import numpy as np
import psutil
import torch
import zmq
from tqdm import tqdm

from service import logs, metrics
from service.errors import DeadlineExceeded, Internal, ModelFailed, ModelLoading, ServiceError, UnknownModel
from service.registry.loader import LoadedModel
from service.registry.repository import scan
from service.settings import Settings
from service.worker import engine
from service.worker.messages import (
    Answer,
    Cancel,
    Done,
    Failed,
    Hello,
    Job,
    Load,
    Loaded,
    Reply,
    Status,
    Timings,
    Unload,
    decode_request,
    encode,
)
from service.worker.models import ModelTable
from service.worker.queue import JobQueue, Waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Unfinished:
    """A job whose explanation is being worked out, and the time it has taken so far."""

    waiting: Waiting
    explanation: engine.Unfinished
    timings: Timings


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
        self._socket.set_hwm(0)  # the API's permits bound what is under way; nothing may be dropped here
        self._socket.bind(address)
        self._wakeup = context.socket(zmq.PULL)
        self._wakeup.bind("inproc://model-changed")
        self._models = ModelTable(scan(settings.model_repository), self._device, _waker(context))
        self._max_forward_passes = settings.max_forward_passes
        self._queue = JobQueue()
        self._unfinished: OrderedDict[tuple[bytes, int], _Unfinished] = OrderedDict()
        self._callers: set[bytes] = set()
        self._waiting_loads: dict[str, list[tuple[bytes, int]]] = defaultdict(list)

    def run(self) -> None:
        """Serve until killed, or until the process that started this one is gone."""
        parent = multiprocessing.parent_process()
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wakeup, zmq.POLLIN)
        if parent is not None:
            poller.register(parent.sentinel, zmq.POLLIN)
        self._models.load_at_startup()
        while True:
            ready = dict(poller.poll(timeout=0 if self._queue or self._unfinished else None))
            if parent is not None and parent.sentinel in ready:
                return
            self._receive_all()
            self._run_batch()
            self._advance()
            metrics.QUEUE_DEPTH.labels(str(self._device)).set(len(self._queue))

    def _receive_all(self) -> None:
        while self._wakeup.poll(0):
            self._model_changed(self._wakeup.recv_string())
        while self._socket.poll(0):
            caller, header, *frames = self._socket.recv_multipart(copy=False)
            self._receive(caller.bytes, header.buffer, frames)

    def _receive(self, caller: bytes, header: memoryview, frames: Sequence[zmq.Frame]) -> None:
        match decode_request(header):
            case Hello():
                self._callers.add(caller)
                self._reply(caller, self._status())
            case Job() as job:
                pixels = np.frombuffer(frames[0].buffer, np.uint8).reshape(job.shape)
                self._queue.put(Waiting(caller, job, pixels))
            case Cancel(id=job_id):
                self._queue.cancel(caller, job_id)
                self._unfinished.pop((caller, job_id), None)
            case Load(id=load_id, model=key):
                self._load(caller, load_id, key)
            case Unload(id=load_id, model=key):
                self._models.unload(key)
                self._announce()
                self._reply(caller, Loaded(load_id))

    def _load(self, caller: bytes, load_id: int, key: str) -> None:
        try:
            state, reason = self._models.state(key)
        except UnknownModel as error:
            self._fail(caller, load_id, error)
            return
        if state == "ready":
            self._reply(caller, Loaded(load_id))
            return
        if self._models.failed_lately(key):
            self._fail(caller, load_id, ModelFailed(f"model {key} can't be loaded: {reason}"))
            return
        self._waiting_loads[key].append((caller, load_id))
        self._models.start_loading(key)
        self._announce()

    def _model_changed(self, key: str) -> None:
        """A load has ended: tell everybody, then those who wait for it."""
        self._announce()
        state, reason = self._models.state(key)
        for caller, load_id in self._waiting_loads.pop(key, []):
            if state == "ready":
                self._reply(caller, Loaded(load_id))
            else:
                self._fail(caller, load_id, ModelFailed(f"model {key} can't be loaded: {reason}"))

    def _run_batch(self) -> None:
        """Run the jobs that go together with the one that waited longest."""
        for late in self._queue.drop_expired(monotonic()):
            self._fail(late.caller, late.job.id, DeadlineExceeded("the deadline passed while the image was queued"))
        key = self._queue.first_model()
        if key is None:
            return
        model = self._models.ready(key)
        batch = self._queue.take(key, model.card.batch if model else len(self._queue))
        if model is None:
            for waiting in batch:
                self._fail(waiting.caller, waiting.job.id, ModelLoading(f"model {key} is not loaded"))
            return
        self._attempt(model, key, batch)

    def _attempt(self, model: LoadedModel, key: str, batch: list[Waiting]) -> None:
        """Answer a batch; if it fails, each of its jobs alone, so that only the one at fault does."""
        try:
            self._answer(model, key, batch)
        except Exception as error:  # whatever a batch does, its callers get an answer and the log gets the reason
            log.exception("batch failed", extra={"fields": {"model": key, "images": len(batch)}})
            if len(batch) == 1:
                self._fail(batch[0].caller, batch[0].job.id, _as_service_error(error))
            self._end_process_if_device_lost()
            for waiting in batch if len(batch) > 1 else []:
                self._attempt(model, key, [waiting])

    def _end_process_if_device_lost(self) -> None:
        """After some faults CUDA fails for ever; then this raises, and the supervisor starts another worker."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _answer(self, model: LoadedModel, key: str, batch: list[Waiting]) -> None:
        taken = monotonic()
        pixels, questions = [waiting.pixels for waiting in batch], [waiting.job.question for waiting in batch]
        result = engine.run(model, pixels, questions, self._max_forward_passes)
        metrics.BATCH_SIZE.labels(key.partition("@")[0]).observe(len(batch))
        metrics.DEVICE_MEMORY.labels(str(self._device)).set(_memory(self._device))
        for waiting, answer in zip(batch, result.answers, strict=True):
            backward = result.backward if waiting.job.question else 0.0
            timings = Timings(taken - waiting.job.sent, result.forward, backward)
            if isinstance(answer, ServiceError):
                self._fail(waiting.caller, waiting.job.id, answer)
            elif isinstance(answer, engine.Unfinished):
                self._unfinished[waiting.caller, waiting.job.id] = _Unfinished(waiting, answer, timings)
            else:
                self._done(waiting, answer, timings)

    def _advance(self) -> None:
        """Take one step of the expensive explanation that waited longest, then let others have their turn."""
        if not self._unfinished:
            return
        place, work = self._unfinished.popitem(last=False)
        caller, job_id = place
        if work.waiting.job.deadline <= monotonic():
            self._fail(caller, job_id, DeadlineExceeded("the deadline passed before the explanation was worked out"))
            return
        start = perf_counter()
        try:
            answer = work.explanation.advance()
        except Exception as error:  # whatever a method does, its caller gets an answer and the log gets the reason
            log.exception("explanation failed", extra={"fields": {"model": work.waiting.job.model}})
            self._fail(caller, job_id, _as_service_error(error))
            self._end_process_if_device_lost()
            return
        timings = msgspec.structs.replace(work.timings, backward=work.timings.backward + perf_counter() - start)
        if answer is None:
            self._unfinished[place] = replace(work, timings=timings)
        else:
            self._done(work.waiting, answer, timings)

    def _done(self, waiting: Waiting, answer: Answer, timings: Timings) -> None:
        done = Done(waiting.job.id, timings, answer.targets, answer.layer, answer.maps.shape)
        self._reply(waiting.caller, done, answer.scores, np.ascontiguousarray(answer.maps))

    def _status(self) -> Status:
        return Status(str(self._device), self._models.status(), self._models.started)

    def _announce(self) -> None:
        status = self._status()
        for caller in self._callers:
            self._reply(caller, status)

    def _fail(self, caller: bytes, request_id: int, error: ServiceError) -> None:
        self._reply(caller, Failed(request_id, error.code, error.detail))

    def _reply(self, caller: bytes, reply: Reply, *frames: np.ndarray) -> None:
        self._socket.send_multipart([caller, encode(reply), *(frame.data for frame in frames)])


def _waker(context: zmq.Context[zmq.Socket[bytes]]) -> Callable[[str], None]:
    """A function for the loading thread that wakes the worker's loop with a model's key."""

    def wake(key: str) -> None:
        with context.socket(zmq.PUSH) as socket:
            socket.connect("inproc://model-changed")
            socket.send_string(key)

    return wake


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    return Internal("the model failed on this batch; the worker's log has the reason")


def _memory(device: torch.device) -> int:
    """Bytes held on the device."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return int(psutil.Process().memory_info().rss)


def main(address: str, device: str, settings: Settings) -> None:
    """Entry point of the process."""
    logs.configure(settings.log_level)
    tqdm.set_lock(threading.RLock())  # its own, which torch makes it create, is a semaphore that outlives the process
    Worker(address, device, settings).run()
