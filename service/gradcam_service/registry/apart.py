"""Traces or exports a model in a process of its own, which keeps what it makes where others find it.

torch does both in Python, for seconds, with about a gigabyte that nothing else needs: in the worker, every batch would
wait for the interpreter, and the memory would stay. Each is a process, so that neither holds what the other one needed.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

from setproctitle import setproctitle
from tqdm import tqdm

from gradcam_service import logs
from gradcam_service.errors import ModelFailed, ServiceError, in_one_line
from gradcam_service.kinds import load_plugins
from gradcam_service.registry.folder import ModelFolder

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
Task = Literal["trace", "export"]
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


def run(task: Task, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    """Have a process trace a model or export its backbone, and wait until what it made is kept, as far as it can be.

    Args:
        task: which of both.
        folder: of the model.
        key: of what it keeps.
        surroundings: of the process.

    Raises:
        ModelFailed: the model can't be built or traced, or the process died of it.
        OSError: it can't be started.
    """
    heard, telling = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_run, args=(task, folder, key, surroundings, telling), name=task, daemon=True)
    process.start()
    telling.close()
    with heard:
        try:
            failed = heard.recv_bytes().decode()
        except EOFError:
            failed = None
    process.join()
    if failed is None:
        raise ModelFailed(f"the process that {task}s the model {_how_it_died(process.exitcode or 0)}")
    if failed:
        raise ModelFailed(failed)


def _how_it_died(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed; there may not have been enough memory for it"
    return f"died ({signal.Signals(-code).name if code < 0 else f'exit {code}'})"


def _run(task: Task, folder: ModelFolder, key: str, surroundings: Surroundings, telling: Connection) -> None:
    """Entry point of the process, which tells what failed; nothing where nothing did."""
    failed = ""
    try:
        _do(task, folder, key, surroundings)
    except ServiceError as error:
        failed = error.detail
    except BaseException as error:  # a plugin's exit as well: who waits is told what it was
        failed = f"the model can't be {task.rstrip('e')}ed: {in_one_line(error)}"
    telling.send_bytes(failed.encode())


def _do(task: Task, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    setproctitle(f"gradcam: {task}")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE)
    logs.configure(surroundings.log_level)
    load_plugins(surroundings.plugins)
    tqdm.set_lock(threading.RLock())  # its own, which torch makes it create, is a semaphore that outlives the process
    gc.disable()  # it ends soon
    import torch

    from gradcam_service.registry.traces import keep_export, keep_trace

    torch.set_num_threads(1)
    if task == "trace":
        keep_trace(folder, key)
    else:
        keep_export(folder, key)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
