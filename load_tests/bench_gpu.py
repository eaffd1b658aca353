"""Measures a GPU: ``python load_tests/bench_gpu.py [--rounds N]``.

The table is printed, and written to build/bench_gpu.md. Its goals hold for an NVIDIA H200 with 16 cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import compute
from drive import Request, one_by_one
from record import Row, in_turns, record
from subject import MODEL, photograph, runtime_of, settled

from live import running

DEVICE = "cuda:0"
PARTS = ("engine", "http")
BATCHES = (1, 8, 64)
MODELS = {"resnet50": MODEL.format("resnet50") + "precision: bfloat16\nbatch: 64\n"}


def measured(repository: Path, rounds: int, parts: Sequence[str]) -> Iterator[Row]:
    """Every row of these `PARTS`, as soon as it is known."""
    for batch in BATCHES if "engine" in parts else ():
        yield from _engine(repository, rounds, batch)
    if "http" in parts:
        yield from _http(repository, rounds)


def _engine(repository: Path, rounds: int, batch: int) -> Iterator[Row]:
    process = compute.Aside()

    def rate(method: str | None) -> Callable[[], float]:
        return lambda: batch / process.run(compute.engine, repository, "resnet50", batch, method, DEVICE)

    found = in_turns(
        rounds,
        explain=rate("gradcam"),
        predict=rate(None),
        busy=lambda: process.run(compute.busy, repository, "resnet50", batch, "gradcam", DEVICE),
    )
    speed, ratio, busy = ("≥ 10000", "≥ 0.95", "≥ 80") if batch == max(BATCHES) else ("", "", "")
    yield Row(f"engine: explain, batch {batch}", found["explain"], speed, "images/s")
    yield Row(f"engine: explain ÷ predict, batch {batch}", found["explain"] / found["predict"], ratio)
    yield Row(f"engine: GPU busy with explain, batch {batch}", 100 * found["busy"], busy, "%")


def _http(repository: Path, rounds: int) -> Iterator[Row]:
    settings = {"default_model": "resnet50", "device": DEVICE, "queue_size": 1000}
    with running(model_repository=repository, **settings) as service:
        settled(service, "resnet50")
        explain, predict = (Request(f"{service.url}/{path}", photograph()) for path in ("explain", "predict"))
        found = in_turns(
            rounds,
            explain=lambda: one_by_one(explain, 128, 10_000).rate(),
            predict=lambda: one_by_one(predict, 128, 10_000).rate(),
        )
        detail = f"on {runtime_of(service, 'resnet50')}"
    yield Row("HTTP, 128 connections: explain", found["explain"], "≥ 2500", "images/s", detail)
    yield Row("HTTP, 128 connections: explain ÷ predict", found["explain"] / found["predict"], "", detail=detail)


if __name__ == "__main__":
    if shutil.which("nvidia-smi") is None:
        sys.exit("there is no nvidia-smi, and so no GPU to measure")
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    record("bench_gpu.md", PARTS, measured, MODELS, subprocess.check_output(asked, text=True).strip())
