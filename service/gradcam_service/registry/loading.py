"""Loads a model version with the engine that its source is for. Torch-free, until torch is needed."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.inputs import OWN_PIXELS
from gradcam_service.registry import apart, cache, kept
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.served import ServedModel
from gradcam_service.registry.sources import SOURCES
from gradcam_service.registry.weights import fetch_weights
from gradcam_service.runtime import _threads, has_torch

if TYPE_CHECKING:
    from gradcam_service.registry.apart import Surroundings

NEEDS_TORCH = "model needs torch: compile it, or use the full image"
_IMPORTING = threading.Lock()


def prepare(entry: Entry, python_path: Path | None, surroundings: Surroundings | None) -> list[cache.Lease]:
    """Wait for all that a load needs and others do: its files and weights, another server, the process that traces it.

    Args:
        entry: where it is described.
        python_path: where the operator's own code may be imported from.
        surroundings: of a process of its own that traces it; None where the load is to.

    Returns:
        Leases of what was fetched and made, which keep it until it is loaded.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    with cache.holding() as leases:
        folder = ModelFolder(entry.spec(), entry.folder(), python_path)
        source = SOURCES[folder.spec.source]
        if source.opens is not None or not has_torch():
            return leases
        fetch_weights(folder)
        if source.awaits is not None:
            source.awaits(folder)
        if surroundings is not None and (key := kept.key_of(folder)) is not None:
            # The load imports the same, which takes as long as in the process that traces.
            threading.Thread(target=_import, name="imports", daemon=True).start()
            apart.trace(folder, key, surroundings)
    return leases


def _import() -> None:
    with suppress(ModelFailed):  # the load says so
        _loader()


def _loader() -> ModuleType:
    """What loads a model into torch, and torch with it.

    Raises:
        ModelFailed: there is no torch.
    """
    with _IMPORTING:
        is_new = "torch" not in sys.modules
        try:
            from gradcam_service.registry import loader
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ModelFailed(NEEDS_TORCH) from error
        if is_new:
            gc.freeze()  # it stays; unloading a model need not look through it
    return loader


def load_form(
    entry: Entry,
    device: str,
    cache_bytes: int = 0,
    max_pixels: int = 0,
    kept_too: bool = False,
    surroundings: Surroundings | None = None,
) -> ServedModel | None:
    """Load what answers for a model, where it has a compiled form; see `gradcam_service.compiled.form.form_of`.

    Raises:
        ModelFailed: the files of the model itself can't be read.
    """
    if device != "cpu":
        return None
    from gradcam_service.compiled.form import form_of
    from gradcam_service.compiled.race import racing

    try:
        found = form_of(entry, max(max_pixels, OWN_PIXELS), kept_too)
        return None if found is None else racing(found, surroundings)
    finally:
        cache.prune(cache_bytes)


def load(
    entry: Entry,
    device: str,
    python_path: Path | None = None,
    cache_bytes: int = 0,
    surroundings: Surroundings | None = None,
    max_pixels: int = 0,
) -> ServedModel:
    """Load a model itself; see `gradcam_service.registry.loader.load` and `gradcam_service.compiled.model.load`.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    _threads.tell_torch()
    if (opens := SOURCES[entry.spec().source].opens) is not None:
        try:
            return opens(entry, max(max_pixels, OWN_PIXELS), surroundings)
        finally:
            cache.prune(cache_bytes)
    loader = _loader()
    _threads.tell_torch()
    import torch

    on = torch.device(device)
    loaded: ServedModel = loader.load(entry, on, python_path, cache_bytes, surroundings, max_pixels)
    return loaded
