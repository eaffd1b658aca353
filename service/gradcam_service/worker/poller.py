"""Poller of the model repositories: rescans them from time to time, and when told to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from gradcam_service import metrics
from gradcam_service.errors import ModelFailed, UnknownModel, in_one_line
from gradcam_service.registry.listing import resolve
from gradcam_service.registry.repository import Entry, Listing, scan
from gradcam_service.registry.spec import Spec
from gradcam_service.settings import Settings

log = logging.getLogger(__name__)

Asked = TypeVar("Asked")

_UNTIL_FIRST = 5.0
"""Seconds between scans as long as none has succeeded: without one, nothing can be served."""

_UNREADABLE = "the model repositories can't be read; what is loaded stays as it is"
_NEVER_READ = "the model repositories can't be read; nothing is loaded until they can"


@dataclass(frozen=True)
class Snapshot:
    """Snapshot of what the repositories hold.

    Attributes:
        on_demand: keys of the entries whose ``model.yaml`` has them loaded when they are asked for.
        default: reference of the default model, which is loaded at start whatever that says.
        descriptions: what each ``model.yaml`` says that its model is for, by key.
    """

    listing: Listing = field(default_factory=Listing)
    on_demand: frozenset[str] = frozenset()
    default: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def loads_on_demand(self, entry: Entry) -> bool:
        """Whether a version is loaded when it is asked for; all others are at start."""
        return entry.key in self.on_demand and not self._is_default(entry)

    def _is_default(self, entry: Entry) -> bool:
        if entry.name != self.default.partition("@")[0]:
            return False
        try:
            return resolve(self.listing.models(), self.default).key == entry.key
        except UnknownModel:
            return False


class RepositoryPoller(Generic[Asked]):
    """A thread that takes snapshots of the repositories.

    Args:
        settings: where the repositories are, how long to wait between two scans, and which model is the default one.
        tell: called from the thread with a snapshot that differs from the last, and after every scan asked for with
            what was given by those who had asked before it began; with the error where one failed.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[Snapshot | ModelFailed, list[Asked]], None],
    ) -> None:
        self._settings = settings
        self._tell = tell
        # Unlike an Event's set, its put may be called by a signal's handler.
        self._asked: SimpleQueue[Asked | None] = SimpleQueue()
        self._specs: dict[Entry, Spec | None] = {}

    def start(self) -> None:
        """Scan once, then go on scanning."""
        self.rescan()
        threading.Thread(target=self._run, name="poller", daemon=True).start()

    def rescan(self, asked: Asked | None = None) -> None:
        """Have the repositories scanned after this call; `tell` gets what is given."""
        self._asked.put(asked)

    def _run(self) -> None:
        last: Snapshot | None = None
        trouble = ""
        while True:
            asked = self._wait(self._settings.poll_seconds or None if last else _UNTIL_FIRST)
            try:
                found = self._snapshot()
            except Exception as error:  # the thread goes on, and those who asked are told
                failed = error if isinstance(error, ModelFailed) else ModelFailed(_unforeseen(error))
                if failed.detail != trouble:
                    log.error(_UNREADABLE if last else _NEVER_READ, extra={"fields": {"reason": failed.detail}})
                trouble = failed.detail
                metrics.REPOSITORIES_UNREADABLE.set(1)
                if asked:
                    self._tell(failed, _given(asked))
                continue
            if trouble:
                log.info("the model repositories can be read again")
            trouble = ""
            metrics.REPOSITORIES_UNREADABLE.set(bool(found.listing.unusable))
            for stray in found.listing.passed_over:
                if last is None or stray not in last.listing.passed_over:
                    log.warning("a file of the repository is passed over", extra={"fields": {"reason": stray}})
            if asked or found != last:
                self._tell(found, _given(asked))
            last = found

    def _wait(self, seconds: float | None) -> list[Asked | None]:
        """Wait so long, or until a scan is asked for; by whom, all whom one scan serves."""
        try:
            asked = [self._asked.get(timeout=seconds)]
        except Empty:
            return []
        while not self._asked.empty():
            asked.append(self._asked.get())
        return asked

    def _snapshot(self) -> Snapshot:
        listing = scan(self._settings.model_repository, self._settings.embedded)
        known = self._specs
        self._specs = {entry: known[entry] if entry in known else _spec(entry) for entry in listing}
        specs = {entry.key: spec for entry, spec in self._specs.items() if spec is not None}
        return Snapshot(
            listing,
            frozenset(key for key, spec in specs.items() if spec.load == "demand"),
            self._settings.default_model,
            {key: spec.description for key, spec in specs.items()},
        )


def _spec(entry: Entry) -> Spec | None:
    try:
        return entry.spec()
    except ModelFailed:
        return None  # loading it will say what is wrong


def _given(asked: list[Asked | None]) -> list[Asked]:
    return [one for one in asked if one is not None]


def _unforeseen(error: Exception) -> str:
    return f"the model repositories can't be read: {in_one_line(error)}"
