"""Opens what ``gradcam compile`` has written: graphs that explain without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.apart import Surroundings
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder
    from gradcam_service.registry.repository import Entry
    from gradcam_service.registry.served import ServedModel


def _opens(entry: Entry, max_pixels: int, surroundings: Surroundings | None) -> ServedModel:
    from gradcam_service.compiled.model import load
    from gradcam_service.compiled.race import racing

    return racing(load(entry, max_pixels), surroundings)


def _build(folder: ModelFolder) -> Built:
    raise ModelFailed("a compiled model has no module; what it was made from has")


SOURCE = Source(_build, architecture=False, weights=False, own_weights="compiled", reproducible=True, opens=_opens)
