"""Measures compiled models beside torch: ``python load_tests/bench_compiled.py [--rounds N]``.

The table is printed, and written to build/bench_compiled.md. Where the processor has units for bfloat16 the ratios are
measured in it as well, and have their goals there.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import compute
import psutil
from bench import each
from drive import Request, one_by_one
from record import Row, in_turns, record
from subject import MODEL, photograph, resident, runtime_of, settled

from gradcam_service.registry.kept import COMPILED
from gradcam_service.registry.repository import EMBEDDED
from live import GRADCAM, Service, running, until

PARTS = ("imagenet", "resnet50", "start")
MODELS = {"resnet50": MODEL.format("resnet50") + "load: demand\n"}


def measured(repository: Path, rounds: int, parts: Sequence[str]) -> Iterator[Row]:
    """Every row of these `PARTS`, as soon as it is known."""
    aside = compute.Aside()
    precisions = ["float32", *(["bfloat16"] if aside.run(compute.has_bfloat16) else [])]
    for precision in precisions:
        if "imagenet" in parts:
            yield _imagenet(repository, rounds, precision)
        if "resnet50" in parts:
            yield _resnet50(repository, rounds, precision, aside)
    if "start" in parts:
        yield from _start(rounds)


def _imagenet(repository: Path, rounds: int, precision: str) -> Row:
    """The embedded model by its compiled form, and without it on OpenVINO, each in a service of its own."""
    full = repository / "full" / "imagenet" / "1"
    shutil.rmtree(full, ignore_errors=True)
    shutil.copytree(EMBEDDED / "imagenet" / "1", full, ignore=shutil.ignore_patterns(COMPILED))
    with (full / "model.yaml").open("a") as file:
        file.write("runtime: openvino\n")
    alone = {"default_model": "imagenet", "embedded": False, "precision": precision}
    with (
        running(default_model="imagenet", precision=precision) as compiled,
        running(model_repository=full.parents[1], **alone) as torch,
    ):
        settled(compiled, "imagenet")
        settled(torch, "imagenet")
        rate = in_turns(rounds, compiled=_explaining(compiled, 240), torch=_explaining(torch, 240))
        detail = f"on {runtime_of(compiled, 'imagenet')} and openvino, {each(rate)}"
    what = f"imagenet in {precision}: HTTP explain, 8 connections: compiled ÷ torch with OpenVINO"
    return Row(what, rate["compiled"] / rate["torch"], "≥ 1.7" if precision == "bfloat16" else "", detail=detail)


def _resnet50(repository: Path, rounds: int, precision: str, aside: compute.Aside) -> Row:
    made = repository / "compiled" / "resnet50" / "1"
    if not made.exists():
        environment = {"GRADCAM_MODEL_REPOSITORY": str(repository)}
        subprocess.run([GRADCAM, "compile", "resnet50", "-o", made], env=environment, check=True)
    engine = "openvino" if precision == "float32" else "openvino-bfloat16"
    settings = {"model_repository": made.parents[1], "default_model": "resnet50", "embedded": False}
    with running(precision=precision, **settings) as service:
        settled(service, "resnet50")
        rate = in_turns(
            rounds,
            bare=lambda: 4 / aside.run(compute.bare, "resnet50", 4, engine),
            explain=_explaining(service, 64),
        )
        detail = f"on {runtime_of(service, 'resnet50')}, {each(rate)}"
    what = f"ResNet-50 in {precision}: HTTP explain, 8 connections: compiled ÷ OpenVINO alone, batch 4"
    return Row(what, rate["explain"] / rate["bare"], "≥ 0.85" if precision == "bfloat16" else "", detail=detail)


def _start(rounds: int) -> Iterator[Row]:
    """The default models, with an empty cache and with what that start has kept."""
    first, second, memory, killed = [], [], [], []
    for _ in range(rounds):
        with TemporaryDirectory() as cache:
            with timed(cache) as (service, seconds):
                first.append(seconds)
                settled(service, "imagenet")
            with timed(cache) as (service, seconds):
                second.append(seconds)
                _explaining(service, 20, connections=1)()
                (worker,), (api,) = (map(psutil.Process, service.pids(name)) for name in ("worker", "api"))
                memory.append(resident(worker) + resident(api))
                worker.kill()
                start = time.perf_counter()
                until(lambda: bool(one_by_one(_request(service), 1, 1).rate() > 0))
                killed.append(time.perf_counter() - start)
    yield Row("imagenet: ready after start, nothing cached", statistics.median(first), "≤ 2.5", "s")
    yield Row("imagenet: ready after start, cached", statistics.median(second), "≤ 1.2", "s")
    yield Row("imagenet: a killed worker answers again after", statistics.median(killed), "≤ 2", "s")
    yield Row("imagenet: memory of worker and API process", statistics.median(memory), "≤ 350", "MB")


@contextmanager
def timed(cache: str) -> Iterator[tuple[Service, float]]:
    """A service with its cache in a folder, once it is ready, and after how many seconds it was."""
    start = time.perf_counter()
    environment = ("env", f"XDG_CACHE_HOME={cache}", str(GRADCAM), "serve")
    with running(*environment, default_model="imagenet", api_processes=1) as service:
        yield service, time.perf_counter() - start


def _explaining(service: Service, count: int, connections: int = 8) -> Callable[[], float]:
    return lambda: one_by_one(_request(service), connections, count).rate()


def _request(service: Service) -> Request:
    return Request(f"{service.url}/explain", photograph())


if __name__ == "__main__":
    record("bench_compiled.md", PARTS, measured, MODELS, "no GPU used")
