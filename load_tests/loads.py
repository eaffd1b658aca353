"""How long requests for one model wait while another is loaded, and what a start takes: the first, and those after it.

    PYTHONPATH=tests python load_tests/loads.py densenet169     # the model that is loaded under load
    PYTHONPATH=tests python load_tests/loads.py --starts        # wall time, processor time and memory of each process
    PYTHONPATH=tests python load_tests/loads.py --starts resnet50    # the same with that model alone, of torchvision

Each round begins with an empty cache, so that the model is traced and exported: loaded while nothing else is asked for,
and under load, which is measured without loads in turns with it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from drive import Answers, Request, one_by_one
from subject import DRAWN, MODEL, settled

from live import ADMIN_TOKEN, Service, running
from repository import in_full

CONNECTIONS, CALM, ROUNDS, STARTS = 8, 400, 3, 3


def disturbed(architecture: str, folder: Path) -> None:
    """Print p99 of explanations by ``scenes`` beside loads of a model, and without."""
    version = folder / "repository" / architecture / "1"
    version.mkdir(parents=True)
    (version / "model.yaml").write_text(MODEL.format(architecture) + "load: demand\n")
    calm, beside, alone, loads = Answers(), Answers(), [], []
    settings = {"model_repository": folder / "repository", "admin_token": ADMIN_TOKEN, "timeout_ms": 600_000}
    with running(**settings) as service, ThreadPoolExecutor(1) as thread:
        ask = Request(f"{service.url}/explain", DRAWN.read_bytes())
        settled(service, "scenes")
        one_by_one(ask, CONNECTIONS, CALM)
        for _ in range(ROUNDS):
            alone.append(_loaded(service, architecture, folder))
            calm.add(one_by_one(ask, CONNECTIONS, CALM))
            loading = thread.submit(_loaded, service, architecture, folder)
            while not loading.done():
                beside.add(one_by_one(ask, CONNECTIONS, 5 * CONNECTIONS))
            loads.append(loading.result())
    print(
        f"scenes, {CONNECTIONS} connections: p99 beside loads of {architecture} ÷ without: "
        f"{beside.percentile(0.99) / calm.percentile(0.99):.2f} ({_told(beside)} and {_told(calm)}; "
        f"until it answered, and was faster: {'; '.join(loads)}; with no requests {'; '.join(alone)})"
    )


def _loaded(service: Service, model: str, cache: Path) -> str:
    """How long a model took to answer, and then to be on the runtime that is the fastest."""
    for kind in ("traces", "exports"):
        shutil.rmtree(cache / "gradcam" / kind, ignore_errors=True)
    start = time.perf_counter()
    _manage(service, model, "load")
    answers = time.perf_counter() - start
    settled(service, model)
    faster = time.perf_counter() - start
    _manage(service, model, "unload")
    return f"{answers:.1f} and {faster:.1f} s"


def _told(answers: Answers) -> str:
    return f"p99 {1e3 * answers.percentile(0.99):.0f} ms, p50 {1e3 * answers.percentile(0.5):.0f} ms"


def starts(folder: Path, architecture: str = "") -> None:
    """Print what each start takes until it is ready, of which the first finds nothing kept.

    Args:
        folder: an empty one.
        architecture: of the only model; where there is none, there are starts of ``imagenet`` and ``scenes`` as they
            are embedded and as copies without their compiled forms, in turns.
    """
    repository = folder / "repository"
    alone = {"model_repository": repository, "embedded": False}
    sides: dict[str, dict[str, object]] = {"compiled forms": {"default_model": "imagenet"}}
    if architecture:
        version = repository / architecture / "1"
        version.mkdir(parents=True)
        (version / "model.yaml").write_text(MODEL.format(architecture))
        sides = {architecture: {"default_model": architecture, **alone}}
    else:
        for name in ("imagenet", "scenes"):
            in_full(name, repository)
        sides["torch"] = {"default_model": "imagenet", **alone}
    for number, (side, settings) in itertools.product(range(1, STARTS + 1), sides.items()):
        os.environ["XDG_CACHE_HOME"] = str(folder / side)
        start = time.perf_counter()
        with running(log_level="warning", **settings) as service:
            ready = time.perf_counter() - start
            processes = [psutil.Process(service.process.pid), *service.children()]
            each = "; ".join(map(_described, processes))
        print(f"{side}, start {number}: ready after {ready:.1f} s; {each}", flush=True)


def _described(process: psutil.Process) -> str:
    with process.oneshot():
        used = sum(process.cpu_times()[:2])
        memory = process.memory_full_info()
    return f"{process.name()} {used:.1f} s, {memory.rss / 1e6:.0f} MB, {memory.uss / 1e6:.0f} of them its own"


def _manage(service: Service, model: str, action: str) -> None:
    answer = service.post(f"/models/{model}/{action}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    answer.raise_for_status()


if __name__ == "__main__":
    with TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        if sys.argv[1:2] == ["--starts"]:
            starts(Path(cache), *sys.argv[2:])
        else:
            disturbed(*(sys.argv[1:] or ["densenet169"]), Path(cache))
