"""Number of threads that compute, in whatever library does. Torch-free."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import psutil

from gradcam_service.cpus import usable

_CHOSEN: list[int] = []


def computing() -> int:
    """How many threads what is opened now computes with: as many as torch has, where it is imported."""
    if (torch := _torch()) is not None:
        return int(torch.get_num_threads())
    return _CHOSEN[-1] if _CHOSEN else _processors()


def choose(count: int) -> None:
    """Have this process compute with so many threads, and torch as well, whenever it comes to be imported."""
    _CHOSEN[:] = [count]
    tell_torch()


def limit(cpus: int | None, processes: int = 1) -> None:
    """Have no library use more processors than this process may.

    Args:
        cpus: how many that are, where the operator says so.
        processes: how many share them.
    """
    available = computing()  # once asked, this thread keeps its own number in torch, whatever another sets
    choose(max(1, (cpus or min(available, usable())) // processes))


def tell_torch() -> None:
    """Have torch, where it is imported, compute with as many threads as were chosen; for each thread that calls it."""
    if _CHOSEN and (torch := _torch()) is not None:
        torch.set_num_threads(_CHOSEN[-1])


def _torch() -> ModuleType | None:
    """What ``import torch`` would give at once: nothing while another thread is at it, for seconds."""
    torch = sys.modules.get("torch")
    return None if getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def _processors() -> int:
    """As many as torch would take: one for each core, not for each of its two halves."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else psutil.cpu_count(logical=False) or os.cpu_count() or 1
