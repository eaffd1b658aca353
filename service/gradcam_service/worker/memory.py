"""The memory of the worker's device."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")  # in a container its own; on a plain host there is none


def device_type(device: str) -> str:
    """``cpu`` or ``cuda``."""
    return device.partition(":")[0]


def held(device: str) -> int:
    """Bytes that this process holds; on a CPU, its resident memory."""
    if device_type(device) == "cuda":
        import torch

        return torch.cuda.memory_reserved(device)
    return int(psutil.Process().memory_info().rss)


def total(device: str) -> int:
    """Bytes that the device has; of a CPU, as many as this process's control group may use."""
    if device_type(device) == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory
    machine = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no control groups, or "max": no bound
        return min(machine, int(_CGROUP_MEMORY.read_text()))
    return machine


def give_back(device: str) -> None:
    """Return what is free and yet kept: cycles without an owner, and what torch or the C library keep for later."""
    gc.collect()
    if device_type(device) == "cuda":
        import torch

        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def was_lacking(error: Exception) -> bool:
    """Whether there wasn't memory for what was tried: on a GPU, on the CPU, or in ONNX Runtime."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be here
        return True
    return "can't allocate memory" in str(error) or "Failed to allocate memory" in str(error)
