"""Measures what a replica answers and takes, by model and number of cores: ``make sizing``.

The table is printed and written to build/sizing.md; deploy/README.md has it. Each row is a service of its own, on so
many cores, which the clients share. What it answers at most is measured with as many connections as keep it busy; what
callers wait, with requests that come at random, two thirds as many: so many may be asked of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import psutil
from drive import Request, as_they_come, one_by_one
from record import conditions
from subject import MODEL, photograph, settled

from gradcam_service.runtime import openvino
from live import GRADCAM, Service, running

MODELS = {
    "imagenet": "",  # EfficientNet-Lite0, which is there already
    "resnet50": MODEL.format("resnet50"),
    "densenet121": MODEL.format("densenet121"),
    "vit_b_16": MODEL.format("vit_b_16"),
}
"""``model.yaml`` of each."""

LOAD = 2 / 3
"""Of the most that a replica answers, what it is asked while waits are measured."""

CONNECTIONS = 8
HEAD = "| model | cores | precision | images/s | core-seconds an image | p50 | p95 | memory | ready after |"


@dataclass(frozen=True)
class Replica:
    """What one replica does.

    Attributes:
        rate: explanations a second at most.
        p50: of explanations at `LOAD` of that, seconds; likewise p95.
        memory: of all its processes together, after the load, bytes; what they share counts once.
        ready: from the start until it would be sent requests, seconds.
    """

    model: str
    cores: int
    precision: str
    rate: float
    p50: float
    p95: float
    memory: int
    ready: float

    def __str__(self) -> str:
        waits = " | ".join(f"{1e3 * wait:.0f} ms" for wait in (self.p50, self.p95))
        return (
            f"| {self.model} | {self.cores} | {self.precision} | {self.rate:.1f} | {self.cores / self.rate:.3f} | "
            f"{waits} | {self.memory / 1e9:.2f} GB | {self.ready:.0f} s |"
        )


def measured(model: str, cores: list[int], seconds: float, precision: str) -> Replica:
    """Start a replica on these cores, and load it for so long, twice.

    Args:
        model: one of `MODELS`, the only one that the replica loads.
        cores: numbers of processors.
        seconds: of each load.
        precision: asked for; what computed is in the row.
    """
    start = time.perf_counter()
    with started(model, cores, precision) as service:
        ready = time.perf_counter() - start
        settled(service, model)
        explain = Request(f"{service.url}/explain", photograph())
        guess = one_by_one(explain, CONNECTIONS, 4 * CONNECTIONS).rate()
        rate = one_by_one(explain, CONNECTIONS, max(4 * CONNECTIONS, int(guess * seconds))).rate()
        calm = as_they_come(explain, LOAD * rate, max(seconds, 20 / rate))
        used = service.client.get(f"/models/{model}").json()["precision"]
        waits = calm.percentile(0.5), calm.percentile(0.95)
        return Replica(model, len(cores), used, rate, *waits, memory(service.process.pid), ready)


@contextmanager
def started(model: str, cores: list[int], precision: str) -> Iterator[Service]:
    """A service with this model, which may use these cores alone."""
    command = ["taskset", "--cpu-list", ",".join(map(str, cores)), str(GRADCAM), "serve"]
    with tempfile.TemporaryDirectory() as repository:
        if MODELS[model]:
            folder = Path(repository, model, "1")
            folder.mkdir(parents=True)
            (folder / "model.yaml").write_text(MODELS[model])
        settings = {"default_model": model, "precision": precision}
        with running(*command, model_repository=repository, **settings) as service:
            yield service


def memory(pid: int) -> int:
    """Bytes of a process and all below it; of pages that several share, each has its part."""
    parent = psutil.Process(pid)
    return sum(process.memory_full_info().pss for process in (parent, *parent.children(recursive=True)))


def main() -> None:
    """Measure every model on every number of cores."""
    usable = sorted(os.sched_getaffinity(0))
    doublings = [2**i for i in range(len(usable).bit_length())]
    parser = argparse.ArgumentParser(description="What a replica answers and takes; the table is in build/sizing.md.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--cores", nargs="+", type=int, default=doublings, help=f"how many (default: {doublings})")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    asked = parser.parse_args()
    if max(asked.cores) > len(usable):
        sys.exit(f"only {len(usable)} cores may be used here")
    written = Path("build/sizing.md")
    written.parent.mkdir(exist_ok=True)
    precisions = ("float32", "bfloat16") if openvino.has_bfloat16() else ("float32",)
    missing = "" if "bfloat16" in precisions else " This processor has no units for bfloat16: that is left out."
    lines = [conditions("no GPU used") + missing, "", HEAD, "|---|--:|---|" + "--:|" * 6]
    print(*lines, sep="\n", flush=True)
    for name, precision in product(asked.models, precisions):
        for count in asked.cores:
            lines.append(str(measured(name, usable[:count], asked.seconds, precision)))
            print(lines[-1], flush=True)
            written.write_text("\n".join(lines) + "\n")  # at once: what comes later may fail


if __name__ == "__main__":
    main()
