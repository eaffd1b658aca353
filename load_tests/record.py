"""Tables of what has been measured, for `bench`, `bench_gpu` and `sizing`."""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, and what it should be; nothing where it can't be."""

    what: str
    found: float | None
    goal: str
    unit: str = "×"
    detail: str = ""

    def __str__(self) -> str:
        if self.found is None:
            return f"| {self.what} | – | {self.goal} | {self.detail} |"
        shown = f"{self.found:.3g}".replace("e+03", "000")
        return f"| {self.what} | {shown}{'' if self.unit == '×' else ' ' + self.unit} | {self.goal} | {self.detail} |"


def once(**sides: Callable[[], float]) -> dict[str, float]:
    """What each side says, asked once, for what takes so long that it needs no practice."""
    return {name: side() for name, side in sides.items()}


def in_turns(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """The median of what each side says, asked in turns, after once for practice."""
    for side in sides.values():
        side()
    told = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in told) for name in sides}


def conditions(gpu: str) -> str:
    """When and where."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "gradcam-service"))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
    return (
        f"{datetime.now(UTC):%d %B %Y}; {psutil.cpu_count()} cores of {processor}, {gpu}; "
        f"Python {platform.python_version()}, {packages}."
    )


def record(
    file: str,
    parts: Sequence[str],
    rows: Callable[[Path, int, Sequence[str]], Iterator[Row]],
    models: dict[str, str],
    gpu: str,
) -> None:
    """Print a table, row by row, and write it to build.

    Args:
        file: there.
        parts: that may be asked for.
        rows: of a repository of models, with so many rounds, of these parts.
        models: what is in it.
        gpu: what was used.
    """
    parser = argparse.ArgumentParser(description="Measure; the table is printed, and written to build.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side of a ratio is measured (default: 3)")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="these parts alone")
    given = parser.parse_args()
    written = Path("build") / file
    written.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as repository:
        for model, text in models.items():
            folder = Path(repository) / model / "2"
            folder.mkdir(parents=True)
            (folder / "model.yaml").write_text(text)
        lines = [conditions(gpu), "", "| what | measured | goal | |", "|---|--:|--:|---|"]
        print(*lines, sep="\n", flush=True)
        for row in rows(Path(repository), given.rounds, given.only):
            lines.append(str(row))
            print(row, flush=True)
        written.write_text("\n".join(lines) + "\n")
