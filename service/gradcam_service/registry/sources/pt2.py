"""Builds from programs of ``torch.export.save``: the ``.pt2`` file holds the graph and the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder


def _build(folder: ModelFolder) -> Built:
    from gradcam_service.registry.program import loaded

    return loaded(folder)


SOURCE = Source(_build, architecture=False, output=True, reproducible=True)
