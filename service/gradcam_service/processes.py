"""Processes as they are started here, and what is said of how they ended."""

from __future__ import annotations

import multiprocessing
import signal

SPAWN = multiprocessing.get_context("spawn")
"""Starts them: a fork of a process with threads may hang."""


def ending(code: int) -> str:
    """Name what a process ended by: ``exit 3``, or the signal whose negated number its exit code is."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # most real-time signals have no name of their own
        return f"SIGRTMIN+{-code - signal.SIGRTMIN}"
