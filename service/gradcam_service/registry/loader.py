"""From a repository entry to a network on a device, with its card."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from gradcam_service.errors import ModelFailed, ServiceError
from gradcam_service.explain.methods import METHODS, in_order
from gradcam_service.explain.network import Network
from gradcam_service.explain.suitability import forward_passes, refusals
from gradcam_service.inputs import INPUTS
from gradcam_service.registry.built import Built
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.sources import build
from gradcam_service.registry.spec import Card, LayerCard, MethodCard, Sample, Spec
from gradcam_service.runtime.fastest import fastest

_LARGEST_SAMPLE = 50_000_000
"""Pixels."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that can answer.

    Attributes:
        spec: what it was to be.
        card: what it says of itself.
        network: on ``device``.
    """

    spec: Spec
    card: Card
    network: Network
    device: torch.device

    def images(self, pixels: list[np.ndarray]) -> Tensor:
        """Pixels, each (H, W, C), uint8 or float32 in 0–1 → the network's input (N, C, H, W) float32, normalised."""
        dtype = torch.uint8 if pixels[0].dtype == np.uint8 else torch.float32
        shape = (len(pixels), *pixels[0].shape)
        staged = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        np.stack(pixels, out=staged.numpy())
        planes = staged.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        batch = planes.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        if dtype == torch.uint8:
            batch.div_(255)
        mean = torch.tensor(self.card.preprocess.mean, device=self.device)[:, None, None]
        std = torch.tensor(self.card.preprocess.std, device=self.device)[:, None, None]
        return batch.sub_(mean).div_(std)

    def accelerated(self) -> LoadedModel | str:
        """The same model on a faster runtime, all parameters shared; why there is none, where there isn't."""
        images = torch.randn(2, self.card.input.count, *self.card.preprocess.input_size, device=self.device)
        found = fastest(self.network, self.spec.runtime, images, self.spec.batch, self.spec.precision)
        if isinstance(found, str):
            return found
        runtime, backbone = found
        card = msgspec.structs.replace(self.card, runtime=runtime)
        return replace(self, card=card, network=self.network.with_backbone(backbone))


def load(entry: Entry, device: torch.device, python_path: Path | None = None) -> LoadedModel:
    """Build, trace, cut and warm up a model, and check it with its own sample.

    Args:
        entry: where it is described.
        device: where it will answer.
        python_path: where the operator's own code may be imported from.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    spec = entry.spec()
    folder = entry.folder()
    built = build(spec, folder, python_path)
    height, width = built.preprocess.input_size
    channels = spec.input.count
    if len(built.preprocess.mean) != channels:
        raise ModelFailed(f"mean and std have {len(built.preprocess.mean)} values, but the input {channels} channels")
    digest = _digest(spec, built)
    try:
        network = Network(built.module, (channels, height, width), spec.layer, spec.activation).to(device)
        classes = network.classes
    except ServiceError as error:
        raise ModelFailed(error.detail) from error
    labels = built.labels or [str(index) for index in range(classes)]
    if classes != len(labels):
        raise ModelFailed(f"the model has {classes} classes, but {len(labels)} labels")
    model = LoadedModel(spec, _card(spec, built, labels, network, digest), network, device)
    network.predict(model.images([np.zeros((height, width, channels), np.uint8)]))
    if spec.sample is not None:
        _check_sample(model, spec.sample, folder)
    return model


def _check_sample(model: LoadedModel, sample: Sample, folder: Path) -> None:
    """Predict a picture whose class is known.

    Raises:
        ModelFailed: the model takes it for something else.
    """
    try:
        data = (folder / sample.image).read_bytes()
        card = model.card
        received = INPUTS[card.input.reader].receive(data, card.input, card.preprocess, _LARGEST_SAMPLE)
        expected = model.card.class_index(sample.label)
    except OSError as error:
        raise ModelFailed(f"sample {sample.image} can't be read: {error.strerror}") from error
    except ServiceError as error:
        raise ModelFailed(f"sample {sample.image}: {error.detail}") from error
    _, scores = model.network.predict(model.images([received.inputs["image"]]))
    found = int(scores[0].argmax())
    if found != expected:
        labels = model.card.labels
        raise ModelFailed(
            f"sample {sample.image} is {labels[expected]!r}, but the model takes it for {labels[found]!r}"
        )


def _card(spec: Spec, built: Built, labels: list[str], network: Network, digest: str) -> Card:
    layers = {layer.name: LayerCard(layer.name, layer.shape) for layer in network.layers}
    return Card(
        digest=digest,
        source=spec.source,
        memory=_memory(built.module),
        weights=spec.weights or "of the factory",
        task=spec.task,
        activation=spec.activation,
        labels=labels,
        input=spec.input,
        preprocess=built.preprocess,
        batch=spec.batch,
        runtime="eager",
        layer=network.cut.layer.name,
        layers=list(layers.values()),
        inner_layers=[name for name in network.every_layer if name not in layers],
        methods=_methods(network, built.preprocess.input_size),
    )


def _memory(module: nn.Module) -> int:
    """Bytes of parameters and buffers, and of what parts hold elsewhere and say so."""
    tensors: int = sum(tensor.nbytes for tensor in module.state_dict().values())
    return tensors + sum(int(getattr(part, "nbytes", 0)) for part in module.modules())


def _methods(network: Network, input_size: tuple[int, int]) -> list[MethodCard]:
    refused = refusals(network)
    return [
        MethodCard(name, forward_passes(METHODS[name], network, "auto", input_size, 1, {}), refused.get(name, ""))
        for name in in_order()
    ]


def _digest(spec: Spec, built: Built) -> str:
    """``sha256:…`` of everything that decides an answer."""
    digest = hashlib.sha256(spec.model_dump_json(exclude={"runtime"}, exclude_defaults=True).encode())
    digest.update("\n".join(built.labels).encode())
    digest.update(built.content.encode())
    for name, tensor in sorted(built.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"
