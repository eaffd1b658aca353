"""How many threads compute, in whatever library does. Torch-free."""

from __future__ import annotations

import os
import sys

import psutil

_CHOSEN: list[int] = []


def computing() -> int:
    """How many threads what is opened now computes with: as many as torch has, where it is imported."""
    if "torch" in sys.modules:
        import torch

        return torch.get_num_threads()
    return _CHOSEN[-1] if _CHOSEN else _processors()


def choose(count: int) -> None:
    """Have this process compute with so many threads, and torch as well, whenever it comes to be imported."""
    _CHOSEN[:] = [count]
    tell_torch()


def tell_torch() -> None:
    """Have torch, where it is imported, compute with as many threads as were chosen; for each thread that calls it."""
    if "torch" in sys.modules and _CHOSEN:
        import torch

        torch.set_num_threads(_CHOSEN[-1])


def _processors() -> int:
    """As many as torch would take: one for each core, not for each of its two halves."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else psutil.cpu_count(logical=False) or os.cpu_count() or 1
