"""Loads a model version: from a repository entry to a network on a device, with its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.costs import forward_passes
from gradcam_service.explain.endings import has_both_sides
from gradcam_service.explain.methods import METHODS, in_order
from gradcam_service.explain.network import Network
from gradcam_service.explain.suitability import refusals
from gradcam_service.inputs import OWN_PIXELS
from gradcam_service.question import Question
from gradcam_service.registry import cache
from gradcam_service.registry.captioner import check
from gradcam_service.registry.card import Card, LayerCard, MethodCard
from gradcam_service.registry.checks import Findings, examine, made_up
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.labels import other_number
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.sample import checked_sample
from gradcam_service.registry.sources import SOURCES
from gradcam_service.registry.spec import Spec
from gradcam_service.registry.threads import half_of_the_threads
from gradcam_service.registry.traces import Exporter, Known, examples, step, traced
from gradcam_service.runtime import refusal
from gradcam_service.runtime._export import ELSEWHERE
from gradcam_service.tasks import TASKS
from gradcam_service.text import TOKENS

if TYPE_CHECKING:
    from gradcam_service.registry.apart import Surroundings
    from gradcam_service.runtime import Precision


@dataclass(frozen=True)
class LoadedModel:
    """A model that can answer: its network on a device, and its card.

    Attributes:
        spec: what it was to be.
        card: what it says of itself.
        network: on ``device``.
        sample: its own sample (H, W, C), as it receives it; None where it has none.
        leases: of what was fetched or compiled for it, so that a reload need not do that again.
        others: why it isn't on this or that runtime, once it has been made faster.
        exporter: gives its backbone, where that is exported elsewhere.
    """

    spec: Spec
    card: Card
    network: Network
    device: torch.device
    sample: np.ndarray | None = None
    leases: tuple[cache.Lease, ...] = ()
    others: tuple[str, ...] = ()
    exporter: Exporter | None = None

    def images(self, pixels: list[np.ndarray]) -> Tensor:
        """Normalise pixels, each (H, W, C), uint8 or float32 in 0–1 → the network's input (N, C, H, W) float32."""
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

    def accelerated(self, precision: Precision, cache_bytes: int) -> LoadedModel | str:
        """See `gradcam_service.registry.acceleration.accelerated`."""
        from gradcam_service.registry.acceleration import accelerated

        return accelerated(self, precision, cache_bytes)

    def answers(self, question: Question | None) -> bool:
        """Nothing is left to another."""
        return True

    def placed(self, values: np.ndarray) -> Tensor:
        """Numbers on the model's device."""
        return torch.from_numpy(values).to(self.device)

    def batch(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> tuple[Tensor, ...]:
        """The network's inputs of a batch: images (N, C, H, W) float32, and tokens (N, T) int64 where it takes any.

        Args:
            inputs: of each image, ``image`` as `images` takes it, or ``tensor``, (C, H, W) float32, normalised already;
                and ``tokens`` (T,) int64, which captions may lack.
        """
        images, text = self._mixed(inputs), self.card.text
        if text is None:
            return (images,)
        tokens = np.stack([own[TOKENS] if TOKENS in own else text.begun() for own in inputs])
        return images, torch.from_numpy(tokens).to(self.device)

    def _mixed(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> Tensor:
        """Images (N, C, H, W) float32 of a batch, in which pixels and prepared tensors may be mixed."""
        pixels = [own["image"] for own in inputs if "image" in own]
        if len(pixels) == len(inputs):
            return self.images(pixels)
        tensors = torch.from_numpy(np.stack([own["tensor"] for own in inputs if "tensor" in own])).to(self.device)
        if not pixels:
            return tensors
        of_tensor = torch.tensor(["tensor" in own for own in inputs], device=self.device)
        mixed = torch.empty((len(inputs), *tensors.shape[1:]), device=self.device)
        mixed[of_tensor], mixed[~of_tensor] = tensors, self.images(pixels)
        return mixed


def load(
    entry: Entry,
    device: torch.device,
    python_path: Path | None = None,
    cache_bytes: int = 0,
    surroundings: Surroundings | None = None,
    max_pixels: int = 0,
) -> LoadedModel:
    """Fetch, build, trace, cut and warm up a model, and check it with its own sample.

    Args:
        entry: where it is described.
        device: where it will answer.
        python_path: where the operator's own code may be imported from.
        cache_bytes: that fetched files may take on the disk once it is loaded or has failed; 0 for no bound. What a
            loaded model was fetched for stays.
        surroundings: of a process of its own that traces it where that can be; None for this process.
        max_pixels: that callers' pictures may have; its sample may have as many, and `OWN_PIXELS` always.

    Raises:
        ModelFailed: saying what is wrong with it.
    """
    try:
        with cache.holding() as leases:
            model = _loaded(entry, device, python_path, surroundings, max(max_pixels, OWN_PIXELS))
            return replace(model, leases=tuple(leases))
    finally:
        cache.prune(cache_bytes)


def _loaded(
    entry: Entry,
    device: torch.device,
    python_path: Path | None,
    surroundings: Surroundings | None,
    max_pixels: int,
) -> LoadedModel:
    spec = entry.spec()
    folder = ModelFolder(spec, entry.folder(), python_path)
    made = traced(folder, surroundings)
    accepts, size = made.known.accepts, made.known.preprocess.input_size
    channels = spec.input.count
    with step("can't be traced", accepts), half_of_the_threads():
        text = made.known.text
        network = Network(made.graph, examples((channels, *size), text), spec.layer, spec.activation).to(device)
        labels = _labels(spec, _given_labels(made.known, network), network)
        exporter = None if refusal(network) else made.exporter
        network.of_images.meta |= {ELSEWHERE: exporter} if exporter else {}
    with step("can't answer", accepts), half_of_the_threads():
        others = [] if text is None else [torch.from_numpy(text.example())[None].to(device)]
        found = examine(network, channels, size, device, others)
        if text is not None and TASKS[spec.task].speaks:
            check(network, made_up(channels, size).to(device), text)
        card = _card(spec, made.known, labels, network, found)
        model = LoadedModel(spec, card, network, device, exporter=exporter)
        if spec.sample is not None:
            model = replace(model, sample=checked_sample(model, spec.sample, folder, max_pixels))
    return model


def _given_labels(known: Known, network: Network) -> list[str]:
    """The labels that are given; of a network that scores words, these."""
    return known.text.vocabulary if known.text is not None and network.positions > 1 else known.labels


def _labels(spec: Spec, given: list[str], network: Network) -> list[str]:
    """A label for each score: those given, or the classes' numbers.

    Raises:
        ModelFailed: there are more or fewer, or softmax is to make a probability of a single score.
    """
    classes = network.classes
    if classes == 1 and spec.activation == "softmax":
        raise ModelFailed(
            "the model gives one score, whose softmax is 1 whatever the picture; "
            "say activation: sigmoid for yes or no, or task: regression for a value"
        )
    if has_both_sides(network.traced) and len(given) <= 1:
        return ["no", *(given or ["yes"])]
    numbers = ["value"] if (classes, spec.activation) == (1, "identity") else [str(index) for index in range(classes)]
    labels = given or numbers
    if classes != len(labels):
        raise ModelFailed(other_number(spec, classes, len(labels)))
    return labels


def _card(spec: Spec, known: Known, labels: list[str], network: Network, found: Findings) -> Card:
    default = network.cut.layer.name
    listed = [layer for layer in network.layers if layer.is_listed or layer.name == default]
    layers = {layer.name: LayerCard(layer.name, layer.shape) for layer in listed}
    return Card(
        digest=known.digest,
        source=spec.source,
        memory=known.memory,
        weights=spec.weights or SOURCES[spec.source].own_weights,
        task=spec.task,
        activation=spec.activation,
        labels=labels,
        input=spec.input,
        preprocess=known.preprocess,
        batch=spec.batch,
        runtime="eager",
        layer=default,
        layers=list(layers.values()),
        inner_layers=[name for name, layer in network.every_layer.items() if layer.is_listed and name not in layers],
        methods=_methods(network, known.preprocess.input_size, found),
        checks=found.cards,
        method=spec.method,
        text=known.text,
        has_value=network.values > 0,
        torch=str(torch.__version__),  # of a class that no other process knows
    )


def _methods(network: Network, input_size: tuple[int, int], found: Findings) -> list[MethodCard]:
    refused = refusals(network, found.lacking)
    if network.positions > 1:  # words at different places are not classes of which one is more probable
        refused |= {name: reason for name in METHODS if (reason := METHODS[name].classes_only)}
    return [
        MethodCard(name, forward_passes(METHODS[name], network, "auto", input_size, 1, {}), refused.get(name, ""))
        for name in in_order()
    ]
