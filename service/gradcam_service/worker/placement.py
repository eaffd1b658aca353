"""Placement of workers on devices. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


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
