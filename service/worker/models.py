"""The models of one worker: what is there, what is loaded, and loading in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, perf_counter

import msgspec
import torch

from service import metrics
from service.errors import ModelFailed, UnknownModel
from service.registry.loader import LoadedModel, load
from service.registry.repository import Entry
from service.registry.spec import Model, State

log = logging.getLogger(__name__)

_RETRY = 30.0
"""Seconds for which a model that failed to load is not tried again on demand."""


class ModelTable:
    """Every model version in the repository and its state.

    One thread loads, in the order asked; while it does, the worker goes on serving what is ready.

    Args:
        entries: what the repository holds.
        device: where models are put.
        changed: called from the loading thread when a load has ended, with the model's key.
    """

    def __init__(self, entries: list[Entry], device: torch.device, changed: Callable[[str], None]) -> None:
        self._entries = {entry.key: entry for entry in entries}
        self._device = device
        self._changed = changed
        self._states: dict[str, State] = dict.fromkeys(self._entries, "unloaded")
        self._reasons: dict[str, str] = {}
        self._failed_at: dict[str, float] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._starting: set[str] = set()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    def status(self) -> list[Model]:
        """Every model in its present state."""
        return [self._status(entry) for entry in self._entries.values()]

    def _status(self, entry: Entry) -> Model:
        model = self._loaded.get(entry.key)  # one look, since the loading thread writes
        if model is not None:
            return msgspec.structs.replace(entry.unloaded(), state="ready", card=model.card)
        state, reason = self._states[entry.key], self._reasons.get(entry.key, "")
        return msgspec.structs.replace(entry.unloaded(), state="loading" if state == "ready" else state, reason=reason)

    def failed_lately(self, key: str) -> bool:
        """Whether the model has failed to load so lately that trying again would only keep others waiting."""
        return self._states[key] == "failed" and monotonic() - self._failed_at.get(key, -_RETRY) < _RETRY

    @property
    def started(self) -> bool:
        """Whether every model that is loaded at start has been, or has failed."""
        return not self._starting

    def ready(self, key: str) -> LoadedModel | None:
        """The model if it can answer now."""
        return self._loaded.get(key)

    def state(self, key: str) -> tuple[State, str]:
        """The model's state, and why it failed where it did.

        Raises:
            UnknownModel: the repository has no such version.
        """
        if key not in self._entries:
            raise UnknownModel(f"there is no model {key!r}")
        return self._states[key], self._reasons.get(key, "")

    def start_loading(self, key: str) -> None:
        """Load a model in the background, unless it is loaded or loading."""
        if self._states[key] in ("unloaded", "failed"):
            self._states[key] = "loading"
            self._loader.submit(self._load, self._entries[key])

    def load_at_startup(self) -> None:
        """Start to load every model that asks for it. One whose model.yaml is wrong is listed as failed."""
        for key, entry in self._entries.items():
            try:
                if entry.spec().load == "start":
                    self._starting.add(key)
                    self.start_loading(key)
            except ModelFailed as error:
                self._fail(entry, error.detail)

    def unload(self, key: str) -> None:
        """Forget a loaded model and give its memory back."""
        model = self._loaded.pop(key, None)
        if self._states[key] != "loading":
            self._states[key] = "unloaded"
        if model is not None:
            entry = self._entries[key]
            metrics.MODEL_INFO.labels(entry.name, entry.version, model.card.digest).set(0)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _load(self, entry: Entry) -> None:
        start = perf_counter()
        try:
            model = load(entry, self._device)
        except ModelFailed as error:
            self._fail(entry, error.detail)
        except Exception as error:  # whatever a model does on loading, its callers are told and the others stay up
            log.exception("model failed to load", extra={"fields": {"model": entry.key}})
            self._fail(entry, f"{type(error).__name__}: {error}")
        else:
            seconds = perf_counter() - start
            self._loaded[entry.key] = model
            self._states[entry.key] = "ready"
            self._reasons.pop(entry.key, None)
            metrics.MODEL_LOAD.labels(entry.name).observe(seconds)
            metrics.MODEL_INFO.labels(entry.name, entry.version, model.card.digest).set(1)
            log.info("model ready", extra={"fields": {"model": entry.key, "seconds": round(seconds, 2)}})
        self._starting.discard(entry.key)
        self._changed(entry.key)

    def _fail(self, entry: Entry, reason: str) -> None:
        self._states[entry.key] = "failed"
        self._failed_at[entry.key] = monotonic()
        self._reasons[entry.key] = reason
        log.error("model failed", extra={"fields": {"model": entry.key, "reason": reason}})
