"""Devices that there are, and the placement of workers on them. torch is imported where a process asks it itself."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradcam_service.isolated import FLAGS
from gradcam_service.runtime import has_torch

_COUNTING = 120.0
"""Seconds that counting GPUs may take: torch is imported, and drivers may have to be loaded."""


@dataclass(frozen=True)
class Placement:
    """Placement of one worker: its device, and how many share that.

    Attributes:
        name: of the worker, and of no other: its device, and its number there where several share it.
        device: ``cpu`` or ``cuda:N``.
        workers: how many share that device.
    """

    name: str
    device: str
    workers: int = 1

    def share(self, whole: int) -> int:
        """What one worker may take of what its device has; 0, which sets no bound, stays 0."""
        return max(1, whole // self.workers) if whole else 0


def placements(devices: Sequence[str]) -> list[Placement]:
    """A worker for each of these devices, in order: ``cpu, cpu`` are two, ``cpu:0`` and ``cpu:1``, that share it."""
    workers, placed = Counter(devices), Counter[str]()
    found: list[Placement] = []
    for device in devices:
        name = device if workers[device] == 1 else f"{device}:{placed[device]}"
        placed[device] += 1
        found.append(Placement(name, device, workers[device]))
    return found


def devices(setting: str) -> list[str]:
    """The devices that ``auto``, or a list such as ``cuda:0,cuda:1``, means: for ``auto`` every GPU, else the CPU.

    Raises:
        OSError: GPUs can't be counted.
    """
    if setting != "auto":
        return [device.strip() for device in setting.split(",")]
    return [f"cuda:{i}" for i in range(count_gpus() if _may_have_gpus() else 0)] or ["cpu"]


def pick_device(setting: str) -> str:
    """The device of a process that has one alone: of several the first. For ``auto``, it asks torch itself."""
    if setting != "auto":
        return devices(setting)[0]
    if not _may_have_gpus():
        return "cpu"
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _may_have_gpus() -> bool:
    """Whether torch is to be asked, which takes it a second; where there is none, a GPU is of no use."""
    return Path("/dev/nvidiactl").exists() and has_torch()


def count_gpus() -> int:
    """How many GPUs torch sees, asked by a process of its own: torch must not be imported into the supervisor.

    Raises:
        OSError: that process dies, or does not come to an end.
    """
    asking = [sys.executable, *FLAGS, "-c", "import torch; print(torch.cuda.device_count())"]
    try:
        return int(subprocess.run(asking, stdout=subprocess.PIPE, timeout=_COUNTING, check=True).stdout)
    except subprocess.SubprocessError as error:
        how = "gives no answer" if isinstance(error, subprocess.TimeoutExpired) else "dies"
        raise OSError(f"GPUs can't be counted: the process that asks torch {how}; GRADCAM_DEVICE names one") from error
