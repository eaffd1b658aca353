"""From a spec to a module with its weights, its labels and its preprocessing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from service.errors import ModelFailed
from service.registry.spec import Preprocess, Spec
from service.registry.weights import fetch, read_state
from service.zoo.network import scenes_network

_ZOO: dict[str, Callable[[], nn.Module]] = {"scenes": scenes_network}


@dataclass(frozen=True)
class Built:
    """A model ready to be traced.

    Attributes:
        module: maps (N, 3, H, W) float32 to scores (N, classes).
        labels: one for each class.
        preprocess: from a picture to the module's input.
    """

    module: nn.Module
    labels: list[str]
    preprocess: Preprocess


def build(spec: Spec, folder: Path) -> Built:
    """Build the model that ``folder/model.yaml`` describes.

    Raises:
        ModelFailed: saying what is missing or wrong.
    """
    _check_architecture(spec)
    published = _published_weights(spec)
    labels = _labels(spec, folder, published)
    preprocess = spec.preprocess or _published_preprocess(spec, published)
    return Built(_module(spec, folder, published, len(labels)), labels, preprocess)


def _module(spec: Spec, folder: Path, published: torchvision.models.WeightsEnum | None, classes: int) -> nn.Module:
    if match := re.fullmatch(r"random:(\d+)", spec.weights):
        if int(match[1]) >= 2**64:
            raise ModelFailed(f"weights {spec.weights}: a seed is below 2^64")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(match[1]))
            return _architecture(spec)
    state = _state(spec, folder, published)
    module = _architecture(spec, **({"num_classes": classes} if spec.source == "torchvision" else {}))
    if published is not None and hasattr(module, "transform_input"):
        module.transform_input = True  # type: ignore[assignment]  # Inception's published weights expect inputs scaled to ±1
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFailed(
            f"weights {spec.weights} don't fit {spec.architecture}: {' '.join(str(error).split())}"
        ) from error
    return module


def _check_architecture(spec: Spec) -> None:
    if spec.source == "zoo" and spec.architecture not in _ZOO:
        raise ModelFailed(f"the zoo has no architecture {spec.architecture!r}; it has {', '.join(_ZOO)}")
    known = torchvision.models.list_models(module=torchvision.models)
    if spec.source == "torchvision" and spec.architecture not in known:
        raise ModelFailed(f"torchvision has no classification architecture {spec.architecture!r}")


def _architecture(spec: Spec, **options: object) -> nn.Module:
    if spec.source == "zoo":
        return _ZOO[spec.architecture]()
    module: nn.Module = torchvision.models.get_model(spec.architecture, **options)
    return module


def _state(spec: Spec, folder: Path, published: torchvision.models.WeightsEnum | None) -> dict[str, Tensor]:
    if published is not None:
        named = re.search(
            r"-([0-9a-f]{8,})\.", published.url
        )  # torch hub's convention: the digest's start is in the name
        if named is None:
            raise ModelFailed(f"weights {spec.weights} of {spec.architecture} are published without a digest")
        return read_state(fetch(published.url, spec.sha256 or named[1]), None)
    if spec.weights.startswith(("https://", "http://")):
        if spec.sha256 is None:
            raise ModelFailed(
                f"weights {spec.weights} need a sha256 in model.yaml, so that what arrives can be checked"
            )
        return read_state(fetch(spec.weights, spec.sha256), None)
    path = folder / spec.weights
    if not path.is_file():
        raise ModelFailed(
            f"weights {spec.weights!r}: no such file in {folder}, and not a weights name of {spec.architecture}"
        )
    return read_state(path, spec.sha256)


def _published_weights(spec: Spec) -> torchvision.models.WeightsEnum | None:
    """Torchvision's weights of that name, or None where the spec names other weights."""
    if spec.source != "torchvision" or spec.architecture not in torchvision.models.list_models():
        return None
    return torchvision.models.get_model_weights(spec.architecture).__members__.get(spec.weights)


def _labels(spec: Spec, folder: Path, published: torchvision.models.WeightsEnum | None) -> list[str]:
    if spec.labels is not None:
        try:
            return (folder / spec.labels).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ModelFailed(f"labels {spec.labels} can't be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ModelFailed(f"labels {spec.labels} are not UTF-8: {error}") from error
    source = published or _default_weights(spec)
    if source is None:
        raise ModelFailed("model.yaml must name a labels file: these weights come without labels")
    return list(source.meta["categories"])


def _published_preprocess(spec: Spec, published: torchvision.models.WeightsEnum | None) -> Preprocess:
    source = published or _default_weights(spec)
    if source is None:
        raise ModelFailed("model.yaml must say how to preprocess: these weights come without that")
    transform = source.transforms()
    return Preprocess(
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation=transform.interpolation.value,
    )


def _default_weights(spec: Spec) -> torchvision.models.WeightsEnum | None:
    """The weights whose labels and preprocessing stand for a torchvision architecture with other weights."""
    if spec.source != "torchvision" or spec.architecture not in torchvision.models.list_models():
        return None
    default: torchvision.models.WeightsEnum = torchvision.models.get_model_weights(spec.architecture).DEFAULT
    return default
