"""Builds from ONNX files, of any framework: the file holds the architecture and the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder


def _build(folder: ModelFolder) -> Built:
    from gradcam_service.registry.onnx_model import imported

    return imported(folder)


SOURCE = Source(_build, architecture=False, output=True, reproducible=True)
