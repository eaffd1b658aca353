"""Architectures of the embedded models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import Built, own_labels, own_preprocess, with_weights
from gradcam_service.registry.spec import Spec
from gradcam_service.zoo.network import scenes_network

_ZOO: dict[str, Callable[[], nn.Module]] = {"scenes": scenes_network}


def build(spec: Spec, folder: Path, _: Path | None) -> Built:
    """Build one of the zoo's architectures with the operator's labels and preprocessing.

    Raises:
        ModelFailed: saying what is missing or wrong.
    """
    if spec.architecture not in _ZOO:
        raise ModelFailed(f"the zoo has no architecture {spec.architecture!r}; it has {', '.join(_ZOO)}")
    labels = own_labels(spec, folder)
    if labels is None:
        raise ModelFailed("model.yaml must name a labels file: this source comes without labels")
    return Built(with_weights(spec, folder, _ZOO[spec.architecture]), labels, own_preprocess(spec))
