"""Number of processors that this process may use: on a shared machine, fewer than there are. Torch-free."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The processors that a process's affinity and its control group allow, at least 1.

    A container of 2 CPUs on a node of 64 sees all 64: its bound is the quota of time in ``cpu.max``, its own or that of
    a group around it (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files). Parts of a processor
    count as one more.

    Args:
        groups: where control groups are mounted.
        own: says which of them is this process's.
    """
    return max(1, math.ceil(min(_by_affinity(), _quota(groups, own))))


def _by_affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(groups: Path, own: Path) -> float:
    """Processors' worth of time that the narrowest group around this process may use; infinity without a bound."""
    try:
        path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):  # no control groups, or none of version 2
        return math.inf
    group = groups / path.strip("/")
    return min(_processors(folder / "cpu.max") for folder in (group, *group.parents) if folder.is_relative_to(groups))


def _processors(file: Path) -> float:
    try:
        quota, period = file.read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):  # the group at the root has none
        return math.inf
