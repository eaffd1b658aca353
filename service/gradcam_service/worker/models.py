"""The models of one worker: which versions the repositories hold, which of them are loaded, and which should be."""

from __future__ import annotations

import logging
import weakref
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from time import monotonic, perf_counter

import torch

from gradcam_service import metrics
from gradcam_service.errors import ModelFailed, UnknownModel
from gradcam_service.explain.graph import forget_sources
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.spec import Card, Model, State, version_order
from gradcam_service.settings import Settings
from gradcam_service.worker import memory
from gradcam_service.worker.poller import Snapshot

log = logging.getLogger(__name__)

_RETRY = 30.0
"""Seconds for which a model that failed to load is not tried again on demand."""


@dataclass(eq=False)
class _Version:
    """One version of a model.

    Attributes:
        entry: what the repository holds now.
        model: what answers, of this content or, while that is not loaded, of an older one.
        card: of the content last loaded.
        loading: loads asked for and not yet ended.
        slow: whether ``model`` is being made faster.
        failure: why the present content can't be loaded.
        demanded: whether somebody asked for this very version to be loaded.
        dismissed: unloaded, to make room or on request, and not to be loaded before it is asked for.
        used: when it last got a job.
    """

    entry: Entry
    model: LoadedModel | None = None
    card: Card | None = None
    loading: int = 0
    slow: bool = False
    failure: str = ""
    failed_at: float = 0.0
    demanded: bool = False
    dismissed: bool = False
    used: float = 0.0

    @property
    def state(self) -> State:
        if self.model is not None:
            return "ready"
        if self.loading:
            return "loading"
        return "failed" if self.failure else "unloaded"

    def fail(self, reason: str) -> None:
        """Note why the present content can't be loaded; empty where it can, or nobody has tried."""
        self.failure, self.failed_at = reason, monotonic()
        metrics.MODEL_FAILED.labels(self.entry.name, self.entry.version).set(bool(reason))


class ModelTable:
    """Every model version and its state.

    Of each model that loads at start, the highest version that works is kept loaded, and every version that an alias
    names. A new version or new content is loaded beside the old one and takes its place when it is ready; jobs hold the
    model that they were queued for, so the old one goes when the last of them is done. What fails to load replaces
    nothing.

    A model answers as soon as it can, and is then made faster.

    One thread loads, in the order asked; all else happens in the thread that calls.

    Args:
        device: where models are put.
        settings: how much memory they may take, and whose code may run.
        wake: called from the loading thread when a load has ended; then `collect` wants to be called.
    """

    def __init__(self, device: torch.device, settings: Settings, wake: Callable[[], None]) -> None:
        self._device = device
        self._settings = settings
        self._wake = wake
        self._versions: dict[str, _Version] = {}
        self._snapshot = Snapshot()
        self._aliases: dict[str, dict[str, str]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._ended: SimpleQueue[tuple[Entry, LoadedModel | str]] = SimpleQueue()
        self._accelerated: SimpleQueue[tuple[str, LoadedModel, LoadedModel | str]] = SimpleQueue()
        self._start_end: Future[None] | None = None

    @property
    def started(self) -> bool:
        """Whether all that load at start have been loaded and made faster, as far as they can be.

        And whether what that left behind has been given back, which holds the interpreter for a while.
        """
        return self._start_end is not None and self._start_end.done()

    def status(self) -> list[Model]:
        """Every version in its present state."""
        return [self._status(version) for version in self._versions.values()]

    def _status(self, version: _Version) -> Model:
        entry, reason = version.entry, version.failure
        if version.model is not None and reason:
            reason = f"the newer content can't be loaded: {reason}"
        aliases = [alias for alias, of in self._aliases.get(entry.name, {}).items() if of == entry.version]
        return Model(entry.name, entry.version, aliases, version.state, reason, version.card)

    def find(self, key: str, digest: str) -> LoadedModel | None:
        """The version ``key`` if it is ready and still has that digest."""
        version = self._versions.get(key)
        if version is None or version.model is None or version.model.card.digest != digest:
            return None
        version.used = monotonic()
        return version.model

    def apply(self, snapshot: Snapshot) -> None:
        """Take over what the repositories hold now."""
        self._snapshot = snapshot
        entries = {entry.key: entry for entry in snapshot.listing}
        for key in self._versions.keys() - entries.keys():
            log.info("model is gone", extra={"fields": {"model": key}})
            gone = self._versions.pop(key)
            self._drop(gone)
            gone.fail("")
        for key, entry in entries.items():
            version = self._versions.setdefault(key, _Version(entry))
            if version.entry != entry:
                version.entry, version.dismissed = entry, False
                version.fail("")
                if version.model is None:
                    version.card = None
                if version.model is not None or version.loading:
                    self._start(version)
        self._settle()

    def load(self, key: str, again: bool) -> bool:
        """Have a version loaded; False if it is there already.

        Args:
            key: ``name@version``.
            again: even if it is loaded, or has failed lately.

        Raises:
            UnknownModel: there is no such version.
            ModelFailed: it failed so lately that trying again would only keep others waiting.
        """
        version = self._known(key)
        version.demanded = True
        if not again:
            if version.model is not None:
                return False
            if version.failure and monotonic() - version.failed_at < _RETRY:
                raise ModelFailed(f"model {key} can't be loaded: {version.failure}")
        if not version.loading:
            self._start(version)
        return True

    def unload(self, key: str) -> None:
        """Forget a loaded version until it is asked for again.

        Raises:
            UnknownModel: there is no such version.
        """
        version = self._known(key)
        self._drop(version)
        version.card, version.dismissed = None, True
        version.fail("")

    def is_loading(self, key: str) -> bool:
        """Whether a load of this version has not ended."""
        return key in self._versions and self._versions[key].loading > 0

    def failure(self, key: str) -> str | None:
        """Why the version's content is not loaded; None if it is."""
        version = self._versions.get(key)
        if version is None:
            return "it is not in the repository any more"
        return version.failure or None

    def collect(self) -> None:
        """Put what has been loaded into its place."""
        while not self._ended.empty():
            entry, outcome = self._ended.get()
            version = self._versions.get(entry.key)
            if version is None:
                continue
            version.loading -= 1
            if version.entry == entry:  # else newer content is being loaded
                self._take(version, outcome)
        while not self._accelerated.empty():
            self._quicken(*self._accelerated.get())
        self._settle()
        self._make_room()

    def _known(self, key: str) -> _Version:
        if key not in self._versions:
            raise UnknownModel(f"there is no model {key!r}")
        return self._versions[key]

    def _take(self, version: _Version, outcome: LoadedModel | str) -> None:
        budget = self._settings.memory_budget
        if not isinstance(outcome, str) and 0 < budget < outcome.card.memory:
            outcome = f"it takes {outcome.card.memory} bytes; GRADCAM_MEMORY_BUDGET leaves {budget} for all models"
        if isinstance(outcome, str):
            version.fail(outcome)
            log.error("model failed", extra={"fields": {"model": version.entry.key, "reason": outcome}})
            return
        demanded = version.demanded
        self._drop(version)
        self._hold(version, outcome)
        version.slow = True
        version.fail("")
        version.demanded, version.dismissed, version.used = demanded, False, monotonic()
        metrics.MODEL_INFO.labels(version.entry.name, version.entry.version, outcome.card.digest).set(1)
        self._loader.submit(self._accelerate, version.entry.key, weakref.ref(outcome))

    def _quicken(self, key: str, model: LoadedModel, outcome: LoadedModel | str) -> None:
        version = self._versions.get(key)
        if version is None or version.model is not model:
            return
        version.slow = False
        fields: dict[str, object] = {"model": key}
        if isinstance(outcome, str):
            log.info("model stays on eager PyTorch", extra={"fields": fields | {"reason": outcome}})
        else:
            log.info("model is faster now", extra={"fields": fields | {"runtime": outcome.card.runtime}})
            self._hold(version, outcome)

    def _hold(self, version: _Version, model: LoadedModel) -> None:
        version.model, version.card = model, model.card
        weakref.finalize(model, self._loader.submit, _give_back, self._device).atexit = False

    def _settle(self) -> None:
        """Move aliases, drop versions that others have taken the place of, and load what is wanted and not there."""
        self._move_aliases()
        for name, versions in self._by_name().items():
            wanted = self._wanted(name, versions)
            highest = next((version for version in versions if version.model), None)
            for version in versions:
                answers = version is highest or version.entry.version in self._aliases[name].values()
                if version.model is not None and not (answers or version.demanded or version in wanted):
                    self._drop(version)
            for version in wanted:
                if not (version.model or version.loading or version.failure or version.dismissed):
                    self._start(version)
        if self._start_end is None and not any(one.loading or one.slow for one in self._versions.values()):
            self._start_end = self._loader.submit(lambda: None)  # done when all before it is
            self._start_end.add_done_callback(lambda _: self._wake())

    def _wanted(self, name: str, versions: list[_Version]) -> list[_Version]:
        """Of versions that load at start: the highest that may work, and those that an alias names."""
        starting = [version for version in versions if version.entry.key not in self._snapshot.on_demand]
        named = {*self._aliases[name].values(), *self._snapshot.listing.aliases.get(name, {}).values()}
        highest = next((version for version in starting if version.model or not version.failure), None)
        return [version for version in starting if version is highest or version.entry.version in named]

    def _move_aliases(self) -> None:
        """An alias stays where it is until the version that it now names can answer."""
        before, self._aliases = self._aliases, {}
        for name in self._by_name():
            self._aliases[name] = {}
            for alias, wanted in self._snapshot.listing.aliases.get(name, {}).items():
                target = self._versions.get(f"{name}@{wanted}")
                held = before.get(name, {}).get(alias)
                holder = self._versions.get(f"{name}@{held}")
                able = target and (target.model or target.dismissed or target.entry.key in self._snapshot.on_demand)
                if not able and held is not None and holder is not None and holder.model:
                    self._aliases[name][alias] = held
                elif target is not None:
                    self._aliases[name][alias] = wanted

    def _make_room(self) -> None:
        """Unload what was used longest ago until the rest fits."""
        ready = sorted((version for version in self._versions.values() if version.model), key=lambda v: v.used)
        while 0 < self._settings.memory_budget < sum(v.model.card.memory for v in ready if v.model):
            version = ready.pop(0)
            log.info("model makes room", extra={"fields": {"model": version.entry.key}})
            self._drop(version)
            version.dismissed = True

    def _by_name(self) -> dict[str, list[_Version]]:
        """The versions of each model, the highest first."""
        names: dict[str, list[_Version]] = defaultdict(list)
        for version in sorted(self._versions.values(), key=lambda v: version_order(v.entry.version), reverse=True):
            names[version.entry.name].append(version)
        return names

    def _drop(self, version: _Version) -> None:
        """Let go of a model; what is queued for it still holds it."""
        if version.model is not None:
            metrics.MODEL_INFO.labels(version.entry.name, version.entry.version, version.model.card.digest).set(0)
        version.model, version.slow, version.demanded = None, False, False

    def _start(self, version: _Version) -> None:
        version.loading += 1
        self._loader.submit(self._load, version.entry)

    def _load(self, entry: Entry) -> None:
        start = perf_counter()
        outcome: LoadedModel | str
        try:
            outcome = load(entry, self._device, self._settings.python_path)
        except ModelFailed as error:
            outcome = error.detail
        except Exception as error:  # whatever a model does on loading, its callers are told and the others stay up
            log.exception("model failed to load", extra={"fields": {"model": entry.key}})
            outcome = f"{type(error).__name__}: {error}"
        else:
            seconds = perf_counter() - start
            metrics.MODEL_LOAD.labels(entry.name).observe(seconds)
            log.info("model ready", extra={"fields": {"model": entry.key, "seconds": round(seconds, 2)}})
        self._ended.put((entry, outcome))
        del outcome  # the frame of an idle thread would hold the model
        self._wake()

    def _accelerate(self, key: str, loaded: weakref.ref[LoadedModel]) -> None:
        """Make a model that answers already faster, if it can be and is still there."""
        model = loaded()
        if model is None:
            return
        outcome: LoadedModel | str
        try:
            outcome = model.accelerated()
        except Exception as error:  # of the device; the model answers as it is
            outcome = f"{type(error).__name__}: {error}"
        self._accelerated.put((key, model, outcome))
        del model, outcome  # as above
        self._wake()


def _give_back(device: torch.device) -> None:
    """Return a dropped model's memory; its graphs are full of cycles."""
    forget_sources()
    memory.give_back(device)
