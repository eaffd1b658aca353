"""Crash-safe record of the jobs a worker is running, to be read when it is dead. Torch-free.

A message could be lost with the process that sent it; what has been written to a file can't.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """Jobs that a worker is running, at which step, and since when.

    Attributes:
        jobs: caller's identity and id of each job.
        step: how many steps of these jobs are done.
        begun: CLOCK_MONOTONIC seconds.
        longest: seconds that it may take; a worker that takes longer is killed.
    """

    jobs: list[tuple[bytes, int]]
    step: int
    begun: float
    longest: float


_LOADING = "/worker/loader.py"
"""What the stack of the thread goes through that loads models."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class InFlightLog:
    """Log in which a worker records the jobs that it is running; only the last entry is kept.

    Args:
        address: ZeroMQ address of the worker, ``ipc://…``.
        longest: seconds that one thing may take.

    Attributes:
        begun: when the present thing was, CLOCK_MONOTONIC seconds.
    """

    def __init__(self, address: str, longest: float) -> None:
        self._longest = longest
        self.begun = monotonic()
        self._file = os.open(_path(address), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)

    def write(self, jobs: Iterable[tuple[bytes, int]], step: int) -> None:
        """Note what is begun now. Takes microseconds. Where there is no room for it, nothing is noted."""
        self.begun = monotonic()
        entry = _encode(Entry(list(jobs), step, self.begun, self._longest))
        try:
            os.pwrite(self._file, entry, 0)
        except OSError:
            entry = b""
        os.ftruncate(self._file, len(entry))


def last_entry(address: str) -> Entry:
    """What the worker at this address began last; of no jobs where it never did or died while it wrote."""
    with suppress(OSError, msgspec.DecodeError):
        return _decode(_path(address).read_bytes())
    return Entry([], 0, inf, inf)


def note_crashes(address: str) -> None:
    """Have it noted if this process, the worker at this address, crashes: of a fault of its own, not killed by another.

    For this the interpreter writes where it was when SIGSEGV, SIGFPE, SIGABRT, SIGBUS or SIGILL came.
    """
    faulthandler.enable(_path(address, ".crash").open("w"), all_threads=False)


def has_crashed(address: str) -> bool:
    """Whether the worker that was started last at this address crashed, and not while it loaded a model."""
    with suppress(OSError):
        where = _path(address, ".crash").read_text()
        return bool(where) and _LOADING not in where
    return False


def _path(address: str, suffix: str = ".in-flight") -> Path:
    return Path(address.removeprefix("ipc://")).with_suffix(suffix)
