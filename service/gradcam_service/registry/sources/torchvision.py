"""Builds torchvision's classification architectures, with its own weights or an operator's."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.sources import Source
from gradcam_service.registry.spec import Preprocess

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder

log = logging.getLogger(__name__)

_OURS = {"weights", "weights_backbone", "progress"}
"""Options by which torchvision would fetch weights itself, unchecked."""


def _build(folder: ModelFolder) -> Built:
    """Build an architecture of torchvision; labels and preprocessing default to those of its published weights."""
    from torchvision import models

    from gradcam_service.registry.built import Built

    spec = folder.spec
    if spec.architecture not in (names := models.list_models(module=models)):
        meant = did_you_mean(spec.architecture, names)
        raise ModelFailed(f"torchvision has no classification architecture {spec.architecture!r}{meant}")
    if refused := sorted(_OURS & spec.options.keys()):
        raise ModelFailed(f"options: {refused[0]} is decided by weights in model.yaml")
    known = models.get_model_weights(spec.architecture)
    published = known.__members__.get(spec.weights)
    stands_for_all: WeightsEnum = published or known.DEFAULT
    labels = folder.labels() or list(stands_for_all.meta["categories"])
    module = _published(folder, published, len(labels)) if published else _operators(folder, len(labels))
    return Built(module, labels, spec.preprocess or _preprocess(stands_for_all))


def _architecture(folder: ModelFolder, **options: object) -> nn.Module:
    from torchvision import models

    module: nn.Module = models.get_model(folder.spec.architecture, **options | folder.spec.options)
    return module


def _published(folder: ModelFolder, weights: WeightsEnum, classes: int) -> nn.Module:
    from gradcam_service.registry.built import filled
    from gradcam_service.registry.weights import fetch

    spec = folder.spec
    named = re.search(r"-([0-9a-f]{8,})\.", weights.url)  # torch hub's convention: the digest's start is in the name
    if named is None:
        raise ModelFailed(f"weights {spec.weights} of {spec.architecture} are published without a digest")
    path = fetch(weights.url, spec.sha256 or named[1])
    module = _architecture(folder, num_classes=classes)
    if hasattr(module, "transform_input") and "transform_input" not in spec.options:
        module.transform_input = True  # type: ignore[assignment]  # Inception's published weights expect inputs scaled to ±1
    return filled(module, path, folder)


def _operators(folder: ModelFolder, classes: int) -> nn.Module:
    from gradcam_service.registry.built import with_weights

    # Random weights mean the builder's own defaults, its number of classes among them.
    random = str(folder.spec.weights).startswith("random:")
    module = with_weights(folder, lambda: _architecture(folder, **({} if random else {"num_classes": classes})))
    if hasattr(module, "transform_input") and not random and "transform_input" not in folder.spec.options:
        log.warning(
            "transform_input is off; weights that were fine-tuned from published ones answer otherwise without it: "
            "say options: {transform_input: true} or false in model.yaml",
            extra={"fields": {"architecture": folder.spec.architecture, "weights": folder.spec.weights}},
        )
    return module


def _preprocess(weights: WeightsEnum) -> Preprocess:
    transform = weights.transforms()
    return Preprocess(
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation=transform.interpolation.value,
    )


SOURCE = Source(_build, options=True, reproducible=True)
