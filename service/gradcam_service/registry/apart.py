"""Traces a model in a process of its own, which keeps what it makes where others find it.

torch traces in Python, for seconds, with a few hundred megabytes of modules that nothing else needs: in the worker,
every batch would wait for the interpreter, and the memory would stay.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from setproctitle import setproctitle

from gradcam_service import logs
from gradcam_service.errors import ModelFailed
from gradcam_service.kinds import load_plugins
from gradcam_service.registry.folder import ModelFolder

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
_NICE = 5
"""By how much what answers requests goes before it where both want a processor."""


@dataclass(frozen=True)
class Surroundings:
    """What the process has in common with the one that starts it.

    Attributes:
        plugins: folder of more kinds.
        log_level: least severe record that is logged.
        exports: whether a model's backbone is wanted as an ONNX model, too.
    """

    plugins: Path | None = None
    log_level: str = "info"
    exports: bool = True


class Tracer:
    """A process that traces one model, then exports its backbone as an ONNX model, and ends.

    Args:
        folder: of the model.
        key: of what it keeps.
        surroundings: of the process.
    """

    def __init__(self, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
        self._heard, telling = _SPAWN.Pipe(duplex=False)
        given = (folder, key, surroundings, telling)
        self._process = _SPAWN.Process(target=_run, args=given, name="tracer", daemon=True)
        self._process.start()
        telling.close()
        weakref.finalize(self, _end, self._process)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.is_alive()

    def await_trace(self) -> None:
        """Wait until the trace is kept, as far as it can be.

        Raises:
            ModelFailed: the model can't be built or traced, or the process died of it.
        """
        try:
            failed = self._heard.recv_bytes().decode()
        except EOFError:
            self._process.join()
            raise ModelFailed(_how_it_died(self._process.exitcode or 0)) from None
        if failed:
            _end(self._process)
            raise ModelFailed(failed)

    def await_end(self) -> None:
        """Wait until the backbone is kept, too, if it can be exported."""
        self._process.join()


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _how_it_died(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process that traces the model was killed; there may not have been enough memory for it"
    return f"the process that traces the model died ({signal.Signals(-code).name if code < 0 else f'exit {code}'})"


def _run(folder: ModelFolder, key: str, surroundings: Surroundings, telling: Connection) -> None:
    """Entry point of the process."""
    setproctitle("gradcam: tracer")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE)
    logs.configure(surroundings.log_level)
    load_plugins(surroundings.plugins)
    gc.disable()  # it ends soon
    import torch

    from gradcam_service.registry.traces import make

    torch.set_num_threads(1)
    try:
        make(folder, key, surroundings.exports, partial(telling.send_bytes, b""))
    except ModelFailed as error:
        telling.send_bytes(error.detail.encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
