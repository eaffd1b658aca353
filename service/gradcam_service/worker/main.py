"""The worker process: owns one device, answers jobs in batches."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
from collections.abc import Sequence
from math import inf
from time import monotonic

import zmq
from tqdm import tqdm

from gradcam_service import logs, metrics
from gradcam_service.kinds import load_plugins
from gradcam_service.registry.apart import Surroundings
from gradcam_service.runtime._threads import computing, limit
from gradcam_service.settings import Settings
from gradcam_service.worker import memory
from gradcam_service.worker.callers import Callers
from gradcam_service.worker.heartbeat import Heartbeat
from gradcam_service.worker.in_flight_log import InFlightLog, note_crashes
from gradcam_service.worker.jobs import Jobs
from gradcam_service.worker.management import Management
from gradcam_service.worker.messages import Cancel, Hello, Job, Load, Request, Rescan, Unload
from gradcam_service.worker.models import Models
from gradcam_service.worker.placement import Placement


class Worker:
    """Receives, runs a batch, takes a step of an expensive explanation, and again.

    One thread, so that a batch is what arrived during the last one.

    Args:
        address: ZeroMQ address to bind.
        placement: where it runs.
        settings: where the models are.
    """

    def __init__(self, address: str, placement: Placement, settings: Settings) -> None:
        device = placement.device
        self._wakeup: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self._wakeup.bind("inproc://wakeup")
        self._callers = Callers(address, self._forget)
        budget = placement.share(settings.memory_budget)
        on_cpu = memory.device_type(device) == "cpu"
        compiles = on_cpu and settings.compile == "auto"
        surroundings = Surroundings(
            *(settings.plugins, settings.log_level, on_cpu, compiles, settings.precision, computing())
        )
        models = Models(
            *(device, budget, settings.python_path, _wake, settings.cache_bytes, settings.precision, surroundings),
            max_pixels=settings.max_pixels,
        )
        self._in_flight = InFlightLog(address, settings.turn_seconds)
        self._jobs = Jobs(placement.name, device, models, self._callers, self._in_flight, settings.max_forward_passes)
        self._management = Management(models, self._callers, settings, _wake)
        metrics.DEVICE_MEMORY_TOTAL.labels(placement.name).set(placement.share(memory.total(device)))
        self._turn = inf  # when it began, CLOCK_MONOTONIC seconds

    def seconds_busy(self) -> float:
        """How long the present batch or step has taken, and what came before it; negative while it waits for work."""
        return monotonic() - max(self._turn, self._in_flight.begun)

    def rescan(self) -> None:
        """Have the repositories scanned; may be called by a signal's handler."""
        self._management.poller.rescan()

    def run(self) -> None:
        """Serve until killed, or until the process that started this one is gone."""
        parent = multiprocessing.parent_process()
        poller = zmq.Poller()
        for source in (self._callers.socket, self._wakeup, *([parent.sentinel] if parent else [])):
            poller.register(source, zmq.POLLIN)
        self._management.poller.start()
        while True:
            self._turn = inf
            ready = dict(poller.poll(timeout=0 if self._jobs else None))
            self._turn = monotonic()
            if parent and parent.sentinel in ready:
                return
            self._listen()
            self._jobs.run_batch()
            self._jobs.take_step()

    def _listen(self) -> None:
        while self._wakeup.poll(0):
            self._wakeup.recv()
            self._management.changed()
        for caller, request, frames in self._callers.requests():
            self._receive(caller, request, frames)

    def _receive(self, caller: bytes, request: Request, frames: Sequence[zmq.Frame]) -> None:
        match request:
            case Hello(session=session):
                self._callers.greeted(caller, session)
                self._management.announce()
            case Job() as job:
                self._jobs.put(caller, job, frames)
            case Cancel(id=request_id):
                self._jobs.cancel(caller, request_id)
                self._management.cancel(caller, request_id)
            case Load() as load:
                self._management.load(caller, load)
            case Unload() as unload:
                self._management.unload(caller, unload)
            case Rescan() as rescan:
                self._management.rescan(caller, rescan)

    def _forget(self, caller: bytes) -> None:
        self._jobs.forget(caller)
        self._management.forget(caller)


def _wake() -> None:
    """Wake the worker's loop, from another thread."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    with context.socket(zmq.PUSH) as socket:
        socket.connect("inproc://wakeup")
        socket.send(b"")


def main(address: str, placement: Placement, settings: Settings, heartbeat: Heartbeat) -> None:
    """Entry point of the process. SIGHUP has it rescan the model repositories."""
    logs.configure(settings.log_level)
    load_plugins(settings.plugins)
    tqdm.set_lock(threading.RLock())  # its own, which torch makes it create, is a semaphore that outlives the process
    sys.setswitchinterval(0.00005)  # seconds; so long each operator of a batch waits for a thread that loads a model
    gc.freeze()  # what has been imported stays; unloading a model need not look through it
    limit(settings.cpus, placement.workers)
    note_crashes(address)
    worker = Worker(address, placement, settings)
    heartbeat.beat_while(worker.seconds_busy, settings.turn_seconds)
    signal.signal(signal.SIGHUP, lambda *_: worker.rescan())
    worker.run()
