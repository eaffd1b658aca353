"""A heartbeat: tells the supervisor that a process runs and gets on. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, sleep

from gradcam_service.processes import SPAWN

_INTERVAL = 1.0
_SILENCE = 10.0
"""Seconds without a beat after which a process is taken for hung."""
_START = 120.0
"""Seconds that a process may take to its first beat: torch is imported meanwhile."""


class Heartbeat:
    """Shared by a process and its supervisor."""

    def __init__(self) -> None:
        self._silent_until = SPAWN.RawValue("d", 0.0)

    @property
    def silent(self) -> bool:
        """Whether the last beat is too long ago."""
        return bool(monotonic() > self._silent_until.value)

    def await_start(self) -> None:
        """A process is being started."""
        self._silent_until.value = monotonic() + _START

    def beat_while(self, seconds_busy: Callable[[], float], longest: float) -> None:
        """Beat from a thread, as long as this process runs and is busy with one thing for less than ``longest`` s."""

        def run() -> None:
            while True:
                if seconds_busy() < longest:
                    self._silent_until.value = monotonic() + _SILENCE
                sleep(_INTERVAL)

        threading.Thread(target=run, name="heartbeat", daemon=True).start()
