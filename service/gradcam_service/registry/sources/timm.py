"""Builds architectures of timm (https://github.com/huggingface/pytorch-image-models), with its weights or others."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from gradcam_service.errors import ModelFailed
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.sources import Source
from gradcam_service.registry.spec import Preprocess

if TYPE_CHECKING:
    from pathlib import Path

    from timm.models import PretrainedCfg
    from torch import nn

    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder

_COLOURS = 3
_WHEREABOUTS = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load"}
"""What a configuration says of where weights are."""


def _build(folder: ModelFolder) -> Built:
    """Build an architecture of timm, or what a folder of timm's ``save_for_hf`` describes."""
    import timm

    spec = folder.spec
    described = {} if spec.architecture else _described(folder)
    name = str(spec.architecture or described.get("architecture"))
    if not timm.is_model(name):
        raise ModelFailed(f"timm has no architecture {name!r}{did_you_mean(name, timm.list_models())}")
    options = (described.get("model_args") or {}) | spec.options
    # Those of timm's own factory fetch weights or read files, unchecked; all others go to the architecture.
    if refused := sorted(inspect.signature(timm.create_model).parameters.keys() & options.keys()):
        raise ModelFailed(f"options: {refused[0]} is none of the architecture's")
    if spec.input.count != _COLOURS:
        options.setdefault("in_chans", spec.input.count)
    return _of_folder(folder, name, options, described) if described else _of_name(folder, name, options)


def _described(folder: ModelFolder) -> dict[str, Any]:
    from gradcam_service.registry.hub_folder import described

    config = described(folder, "config.json")
    if not config:
        raise ModelFailed(
            "source timm needs an architecture in model.yaml, or beside it the config.json of a folder that timm's "
            "save_for_hf has written"
        )
    return config


def _of_folder(folder: ModelFolder, name: str, options: dict[str, Any], described: dict[str, Any]) -> Built:
    """Build what such a folder holds: config.json with what belongs to the weights, and model.safetensors."""
    import timm
    from timm.models import PretrainedCfg

    from gradcam_service.registry.built import Built
    from gradcam_service.registry.hub_folder import fill, state

    known = {field.name for field in fields(PretrainedCfg)} - _WHEREABOUTS
    config = {key: value for key, value in (described.get("pretrained_cfg") or {}).items() if key in known}
    classes = {"num_classes": described["num_classes"]} if "num_classes" in described else {}
    module = timm.create_model(name, pretrained_cfg=config, **classes | options)
    fill(module, state(folder), name)
    names = described.get("label_names") or []
    descriptions = described.get("label_descriptions") or {}
    labels = folder.labels() or [str(descriptions.get(label, label)) for label in names]
    content = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    return Built(module, labels, folder.spec.preprocess or _preprocess(PretrainedCfg(**config)), content)


def _of_name(folder: ModelFolder, name: str, options: dict[str, Any]) -> Built:
    """Build an architecture; ``weights`` may be one of its pretrained tags."""
    import timm
    from timm.models import get_pretrained_cfg, is_model_pretrained

    from gradcam_service.registry.built import Built, filled, with_weights

    spec = folder.spec
    if spec.weights is None:
        raise ModelFailed("source timm needs weights")
    published = f"{name}.{spec.weights}" if is_model_pretrained(f"{name}.{spec.weights}") else None
    config = get_pretrained_cfg(published or name)
    labels = folder.labels() or _imagenet_labels(config)
    # Random weights mean the builder's own defaults, its number of classes among them.
    classes: dict[str, Any] = {} if str(spec.weights).startswith("random:") else {"num_classes": len(labels)}

    def architecture() -> nn.Module:
        return timm.create_model(name, **classes | options)

    if published is None:
        module = with_weights(folder, architecture)
    else:
        module = filled(architecture(), _fetched(folder, config), folder)
    return Built(module, labels, spec.preprocess or _preprocess(config))


def _fetched(folder: ModelFolder, config: PretrainedCfg | None) -> Path:
    from huggingface_hub import hf_hub_url

    from gradcam_service.registry.weights import fetch

    spec = folder.spec
    if config is None or not config.hf_hub_id:
        raise ModelFailed(f"timm publishes no safetensors for {spec.architecture}.{spec.weights}")
    url = hf_hub_url(config.hf_hub_id, "model.safetensors")
    if spec.sha256 is None:
        raise ModelFailed(f"weights {url} need a sha256 in model.yaml, so that what arrives can be checked")
    return fetch(url, spec.sha256)


def _imagenet_labels(config: PretrainedCfg | None) -> list[str]:
    from timm.data.imagenet_info import ImageNetInfo

    if config is None or config.num_classes != 1000:
        raise ModelFailed("model.yaml must name a labels file: these weights come without labels")
    return [str(label) for label in ImageNetInfo().label_descriptions()]


def _preprocess(config: PretrainedCfg | None) -> Preprocess:
    """What timm's own evaluation transform does: the shortest side, or both, to size / crop_pct, then the centre."""
    modes = ("center", "squash")
    if config is None or config.crop_mode not in modes or config.input_size[1] != config.input_size[2]:
        raise ModelFailed("model.yaml must say how to preprocess: this model's own way is not a square centre crop")
    _, side, _ = config.input_size
    scaled = math.floor(side / config.crop_pct)
    return Preprocess(
        mean=tuple(config.mean),
        std=tuple(config.std),
        resize=(scaled, scaled) if config.crop_mode == "squash" else scaled,
        crop=side,
        interpolation=config.interpolation,  # type: ignore[arg-type]
    )


SOURCE = Source(_build, architecture=None, weights=False, own_weights="of the folder", options=True, reproducible=True)
