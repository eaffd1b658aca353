"""The runtime that was the fastest for a model on this machine, kept so that the next start opens it at once.

Torch-free.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from gradcam_service.kinds import plugins_digest
from gradcam_service.registry.spec import Spec
from gradcam_service.runtime import RUNTIMES, Precision
from gradcam_service.runtime._threads import computing

_NAME = "choice.json"


class Choice(msgspec.Struct, frozen=True):
    """Outcome of a race.

    Attributes:
        asked: which runtimes and precisions took part.
        runtime: what is to compute.
        precision: in which.
        others: why none of the others.
        machine: where that was.
    """

    asked: str
    runtime: str
    precision: str
    others: tuple[str, ...]
    machine: str


_decode = msgspec.json.Decoder(Choice).decode


def asked(spec: Spec, precision: Precision) -> str:
    """Which runtimes and precisions take part, of a model that is computed in a precision unless it says another."""
    return f"{spec.runtime} in {spec.precision or precision}"


def read(folder: Path | None) -> Choice | None:
    """What was chosen for the model whose compilations are in a folder; None where nothing was, or elsewhere."""
    try:
        found = _decode((folder / _NAME).read_bytes()) if folder else None
    except (OSError, msgspec.DecodeError):
        return None
    return found if found and found.machine == machine() else None


def write(folder: Path | None, choice: Choice) -> None:
    """Keep a choice, where there is a folder that takes it."""
    if folder is not None:
        with suppress(OSError):  # which costs another race
            partial = folder / f".{uuid.uuid4().hex}"
            partial.write_bytes(msgspec.json.encode(choice))
            partial.replace(folder / _NAME)


def machine() -> str:
    """Digest of all that decides which runtime is the fastest: processor, threads, runtimes' libraries and plugins."""
    said = [platform.machine(), platform.processor(), f"{computing()} threads", plugins_digest()]
    with suppress(OSError):  # Linux has it, others don't
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    for name in sorted({library for runtime in RUNTIMES.values() for library in runtime.libraries}):
        with suppress(PackageNotFoundError):
            said.append(f"{name} {version(name)}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
