"""Keeps processes running: starts them, starts again those that die, and stops them in order."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pkgutil import resolve_name
from time import monotonic
from typing import Any

from setproctitle import setproctitle

from gradcam_service import metrics
from gradcam_service.processes import SPAWN, ending
from gradcam_service.worker.heartbeat import Heartbeat

log = logging.getLogger(__name__)

_EARLY = 5.0
"""Seconds: a process that dies sooner again and again is started ever more rarely, not to keep a core busy."""
_LONGEST_PAUSE = 8.0
"""Seconds: far less than requests wait, so that those which were accepted before the pause are answered after it."""
_LOOK = 1.0
"""Seconds between looks at whether a process hangs."""


@dataclass
class Child:
    """A process to keep running.

    Attributes:
        name: for logs, metrics and lists of processes; no two are alike.
        target: its entry point as ``package.module:function``; imported in the process itself, so that this one stays
            small.
        args: what the entry point is called with.
        device: the name of its device in metrics, if it is a worker.
        heartbeat: what it beats with, if it does; it is killed when it falls silent.
    """

    name: str
    target: str
    args: tuple[Any, ...]
    device: str | None = None
    heartbeat: Heartbeat | None = None
    process: BaseProcess | None = field(init=False, default=None)
    started: float = field(init=False, default=0.0)
    not_before: float = field(init=False, default=0.0)
    early_deaths: int = field(init=False, default=0)

    def start(self) -> None:
        """Start the process, in a session of its own, so that Ctrl-C reaches the supervisor alone.

        Where the system refuses, as it does without memory or descriptors, that counts as an early death.
        """
        if self.heartbeat:
            self.heartbeat.await_start()
        process = SPAWN.Process(target=_detached, args=(self.target, self.args), name=self.name)
        # Until the child has said what SIGHUP means to it, one must not end it.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            process.start()
        except OSError as error:
            log.error("process can't be started", extra={"fields": {"process": self.name, "reason": str(error)}})
            self._pause_after(self.early_deaths + 1)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        self.process, self.started = process, monotonic()
        log.info("process started", extra={"fields": {"process": self.name, "pid": process.pid}})
        if self.device:
            metrics.WORKER_UP.labels(self.device).set(1)

    @property
    def hangs(self) -> bool:
        """Whether the process's heartbeat has been silent for too long."""
        return self.heartbeat is not None and self.heartbeat.silent

    def end_if_it_hangs(self) -> None:
        """Kill the process if it hangs."""
        if self.process is not None and self.hangs:
            log.error("process hangs", extra={"fields": {"process": self.name, "pid": self.process.pid}})
            self.process.kill()

    def bury(self) -> None:
        """Count a death that nobody asked for."""
        assert self.process is not None
        self.process.join()  # the sentinel may be ready before the exit code is
        code = self.process.exitcode or 0
        reason = "hung" if self.hangs else ending(code)
        log.error("process died", extra={"fields": {"process": self.name, "pid": self.process.pid, "reason": reason}})
        metrics.forget_process(self.name)
        self.process = None
        self._pause_after(self.early_deaths + 1 if monotonic() - self.started < _EARLY else 0)
        if self.device:
            metrics.WORKER_UP.labels(self.device).set(0)
            metrics.WORKER_RESTARTS.labels(self.device, reason).inc()

    def _pause_after(self, early_deaths: int) -> None:
        self.early_deaths = early_deaths
        if early_deaths > 1:
            self.not_before = monotonic() + min(_LONGEST_PAUSE, 2.0**early_deaths)

    def stop(self, seconds: float) -> None:
        """End the process: asked at first, forced after ``seconds``."""
        if self.process is None:
            return
        self.process.join(seconds)
        if self.process.is_alive():
            log.warning("process killed", extra={"fields": {"process": self.name}})
            self.process.kill()
            self.process.join()


class Supervisor:
    """Runs workers and servers until SIGTERM or SIGINT; a second signal ends everything at once.

    SIGHUP is passed on to the workers, which rescan the model repositories.

    Args:
        workers: stopped last, so that servers can finish what they accepted.
        servers: stopped first.
        drain_seconds: how long servers may take to finish.
        on_stop: called first when stopping; lets go of what new callers would wait at.
    """

    def __init__(
        self, workers: Sequence[Child], servers: Sequence[Child], drain_seconds: float, on_stop: Callable[[], None]
    ) -> None:
        self._workers = workers
        self._servers = servers
        self._drain_seconds = drain_seconds
        self._on_stop = on_stop
        self._signalled, self._signal = multiprocessing.Pipe(duplex=False)

    def run(self) -> None:
        """Keep all processes running until told to stop."""
        setproctitle("gradcam: supervisor")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        children = [*self._workers, *self._servers]
        while not self._signalled.poll():
            for child in children:
                if child.process is None and monotonic() >= child.not_before:
                    child.start()
            alive = {child.process.sentinel: child for child in children if child.process is not None}
            for sentinel in wait([self._signalled, *alive], timeout=_LOOK if len(alive) == len(children) else 0.2):
                if isinstance(sentinel, int):
                    alive[sentinel].bury()
            for child in children:
                child.end_if_it_hangs()
        self._stop()

    def _on_signal(self, *_: object) -> None:
        if self._signalled.poll():
            for child in (*self._servers, *self._workers):
                if child.process is not None:
                    child.process.kill()
        self._signal.send_bytes(b"stop")

    def _on_hangup(self, *_: object) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.is_alive():
                os.kill(worker.process.pid or 0, signal.SIGHUP)

    def _stop(self) -> None:
        log.info("stopping", extra={"fields": {"drain_seconds": self._drain_seconds}})
        self._on_stop()
        deadline = monotonic() + self._drain_seconds + 1  # servers give up by themselves a second earlier
        for group in (self._servers, self._workers):
            for child in group:
                if child.process is not None:
                    child.process.terminate()
            for child in group:
                child.stop(max(0.0, deadline - monotonic()))


def _detached(target: str, args: tuple[Any, ...]) -> None:
    os.setsid()
    setproctitle(f"gradcam: {multiprocessing.current_process().name}")
    entry_point = resolve_name(target)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    entry_point(*args)
