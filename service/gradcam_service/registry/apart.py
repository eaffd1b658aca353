"""Traces, exports or compiles a model, or races its runtimes, in a process of its own, which keeps what it finds.

torch does the first three in Python, for seconds, with about a gigabyte that nothing else needs: in the worker, every
batch would wait for the interpreter, and the memory would stay, as would that of the runtimes which lost. Each is a
process, so that none holds what another one needed. A race imports no torch.
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

import msgspec
from setproctitle import setproctitle
from tqdm import tqdm

from gradcam_service import logs
from gradcam_service.errors import ModelFailed, ServiceError, in_one_line
from gradcam_service.kinds import load_plugins
from gradcam_service.processes import SPAWN, ending
from gradcam_service.registry import cache, kept
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.weights import ELSEWHERE, NotFetched, fetch, fetch_weights
from gradcam_service.runtime import Precision

Chore = Literal["trace", "export", "compile", "race"]
TRACES = "traces"
"""What the cache calls traced models."""
_NICE: dict[Chore, int] = {"trace": 5, "export": 5, "race": 5, "compile": 19}
"""By how much what answers requests goes before it where both want a processor; for a compilation nobody waits."""


@dataclass(frozen=True)
class Surroundings:
    """What the process has in common with the one that starts it.

    Attributes:
        plugins: folder of more kinds.
        log_level: least severe record that is logged.
        exports: whether a model's backbone is wanted as an ONNX model, too.
        compiles: whether a model is wanted compiled, for the next start.
        precision: that feature maps are to be computed in.
        threads: that the one that starts it computes with.
    """

    plugins: Path | None = None
    log_level: str = "info"
    exports: bool = True
    compiles: bool = False
    precision: Precision = "float32"
    threads: int = 1


class _Ended(msgspec.Struct, frozen=True):
    """How a chore ended.

    Attributes:
        failed: what failed; empty where nothing did.
        lacks: URL and digest of weights that have to be fetched first.
    """

    failed: str = ""
    lacks: tuple[str, str] | None = None


_decode = msgspec.json.Decoder(_Ended).decode


def trace(folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    """Have a model traced if it isn't, when no other is being traced on this machine, for each takes a gigabyte.

    What has to be fetched for it is fetched while others may be traced.

    Args:
        folder: of the model.
        key: of what is kept of it.
        surroundings: of the process.

    Raises:
        ModelFailed: it can't be fetched, built or traced, or the process died of it.
        OSError: the process can't be started.
    """
    fetched: set[str] = set()
    if not kept.holds(TRACES, key):
        fetch_weights(folder)  # what can't be fetched fails here, before a process imports torch for it
    while True:
        with cache.alone("trace"):
            try:
                return None if kept.holds(TRACES, key) else run("trace", folder, key, surroundings)
            except NotFetched as error:  # of weights whose URL only their source knows
                lacking = error
                if lacking.url in fetched:
                    raise
        fetch(lacking.url, lacking.digest)
        fetched.add(lacking.url)


def run(chore: Chore, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    """Have a process do a chore with a model, and wait until what it found is kept.

    Nothing is kept where the disk takes nothing.

    Args:
        chore: trace or compile the model, export its backbone, or, of a compiled one, race its runtimes.
        folder: of the model.
        key: of what it keeps; a race keeps its outcome where the runtimes keep what they compile.
        surroundings: of the process.

    Raises:
        ModelFailed: that can't be done with the model, or the process died of it.
        NotFetched: it needs weights that aren't on this machine.
        OSError: it can't be started.
    """
    heard, telling = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_run, args=(chore, folder, key, surroundings, telling), name=chore, daemon=True)
    process.start()
    telling.close()
    with heard:
        try:
            ended = _decode(heard.recv_bytes())
        except EOFError:
            ended = None
    process.join()
    if ended is None:
        raise ModelFailed(f"the process that {chore}s the model {_how_it_died(process.exitcode or 0)}")
    if ended.lacks is not None:
        raise NotFetched(*ended.lacks)
    if ended.failed:
        raise ModelFailed(ended.failed)


def _how_it_died(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed; there may not have been enough memory for it"
    return f"died ({ending(code)})"


def _run(chore: Chore, folder: ModelFolder, key: str, surroundings: Surroundings, telling: Connection) -> None:
    """Entry point of the process, which tells how it ended."""
    ended = _Ended()
    try:
        _do(chore, folder, key, surroundings)
    except NotFetched as error:
        ended = _Ended(lacks=(error.url, error.digest))
    except ServiceError as error:
        ended = _Ended(error.detail)
    except BaseException as error:  # a plugin's exit as well: who waits is told what it was
        ended = _Ended(f"the model can't be {chore.rstrip('e')}ed: {in_one_line(error)}")
    telling.send_bytes(msgspec.json.encode(ended))


def _do(chore: Chore, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    setproctitle(f"gradcam: {chore}")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE[chore])
    ELSEWHERE.set(True)  # who waits here keeps others from tracing
    logs.configure(surroundings.log_level)
    load_plugins(surroundings.plugins)
    tqdm.set_lock(threading.RLock())  # its own, which torch makes it create, is a semaphore that outlives the process
    gc.disable()  # it ends soon
    if chore == "race":
        from gradcam_service.compiled.race import keep_choice

        keep_choice(folder, surroundings)
        return
    import torch

    from gradcam_service.compiled.keep import keep_form
    from gradcam_service.registry.traces import keep_export, keep_trace

    torch.set_num_threads(1)
    {"trace": keep_trace, "export": keep_export, "compile": keep_form}[chore](folder, key)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
