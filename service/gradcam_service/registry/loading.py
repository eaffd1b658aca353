"""Loads a model version with the engine that its source is for. Torch-free, until torch is needed."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.inputs import OWN_PIXELS
from gradcam_service.registry import cache
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.served import ServedModel
from gradcam_service.registry.sources import SOURCES
from gradcam_service.runtime import _threads

if TYPE_CHECKING:
    from gradcam_service.registry.apart import Surroundings

NEEDS_TORCH = "model needs torch: compile it, or use the full image"


def load(
    entry: Entry,
    device: str,
    python_path: Path | None = None,
    cache_bytes: int = 0,
    surroundings: Surroundings | None = None,
    max_pixels: int = 0,
) -> ServedModel:
    """Load a model; see `gradcam_service.registry.loader.load` and `gradcam_service.compiled.model.load`.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    if (opens := SOURCES[entry.spec().source].opens) is not None:
        try:
            return opens(entry, max(max_pixels, OWN_PIXELS))
        finally:
            cache.prune(cache_bytes)
    is_new = "torch" not in sys.modules
    try:
        import torch

        from gradcam_service.registry import loader
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelFailed(NEEDS_TORCH) from error
    if is_new:
        gc.freeze()  # it stays; unloading a model need not look through it
    _threads.tell_torch()
    return loader.load(entry, torch.device(device), python_path, cache_bytes, surroundings, max_pixels)
