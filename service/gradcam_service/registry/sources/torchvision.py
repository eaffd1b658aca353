"""Torchvision's classification architectures, with its own weights or an operator's."""

from __future__ import annotations

import re
from pathlib import Path

import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import Built, filled, own_labels, with_weights
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.registry.weights import fetch


def build(spec: Spec, folder: Path, _: Path | None) -> Built:
    """Build an architecture of torchvision; labels and preprocessing default to those of its published weights.

    Raises:
        ModelFailed: saying what is missing or wrong.
    """
    assert spec.architecture is not None
    if spec.architecture not in torchvision.models.list_models(module=torchvision.models):
        raise ModelFailed(f"torchvision has no classification architecture {spec.architecture!r}")
    known = torchvision.models.get_model_weights(spec.architecture)
    published = known.__members__.get(spec.weights)
    stands_for_all: WeightsEnum = published or known.DEFAULT
    labels = own_labels(spec, folder) or list(stands_for_all.meta["categories"])
    module = _module(spec, folder, published, len(labels))
    return Built(module, labels, spec.preprocess or _preprocess(stands_for_all))


def _module(spec: Spec, folder: Path, published: WeightsEnum | None, classes: int) -> nn.Module:
    def architecture(**options: object) -> nn.Module:
        module: nn.Module = torchvision.models.get_model(spec.architecture, **options)
        return module

    if published is None:
        # Random weights mean the builder's own defaults, its number of classes among them.
        random = (spec.weights or "").startswith("random:")
        return with_weights(spec, folder, architecture if random else lambda: architecture(num_classes=classes))
    named = re.search(r"-([0-9a-f]{8,})\.", published.url)  # torch hub's convention: the digest's start is in the name
    if named is None:
        raise ModelFailed(f"weights {spec.weights} of {spec.architecture} are published without a digest")
    path = fetch(published.url, spec.sha256 or named[1])
    module = architecture(num_classes=classes)
    if hasattr(module, "transform_input"):
        module.transform_input = True  # type: ignore[assignment]  # Inception's published weights expect inputs scaled to ±1
    return filled(module, path, spec)


def _preprocess(weights: WeightsEnum) -> Preprocess:
    transform = weights.transforms()
    return Preprocess(
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation=transform.interpolation.value,
    )
