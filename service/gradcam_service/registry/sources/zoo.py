"""Builds architectures of the embedded models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder


def _build(folder: ModelFolder) -> Built:
    """Build one of the zoo's architectures with the operator's labels and preprocessing."""
    from gradcam_service.registry.built import Built, with_weights
    from gradcam_service.zoo.architectures import ARCHITECTURES

    name = str(folder.spec.architecture)
    if name not in ARCHITECTURES:
        meant = did_you_mean(name, ARCHITECTURES)
        raise ModelFailed(f"the zoo has no architecture {name!r}{meant}; it has {', '.join(ARCHITECTURES)}")
    labels = folder.labels()
    if labels is None:
        raise ModelFailed("model.yaml must name a labels file: this source comes without labels")
    return Built(with_weights(folder, ARCHITECTURES[name]), labels, folder.preprocess())


SOURCE = Source(_build, reproducible=True)
