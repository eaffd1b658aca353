"""One batch: every image passes the backbone once, whatever is asked about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from service.explain.cut import Cut
from service.explain.methods import METHODS
from service.explain.network import Network


class Question(Protocol):
    """What is asked about one image besides its scores."""

    @property
    def method(self) -> str:
        """A name in `METHODS`."""

    @property
    def layer(self) -> str:
        """A layer's name, or ``auto``."""

    @property
    def targets(self) -> tuple[int, ...]:
        """Class indices; empty means the class with the highest score."""


@dataclass(frozen=True)
class Explanation:
    """The answer to a `Question`.

    Attributes:
        layer: the name of the layer that was explained.
        targets: class indices, in the question's order.
        maps: (targets, h, w) float32, on the CPU, logit units.
    """

    layer: str
    targets: tuple[int, ...]
    maps: Tensor


@torch.no_grad()
def explain(
    network: Network, images: Tensor, features: Tensor, scores: Tensor, questions: Sequence[Question | None]
) -> list[Explanation | None]:
    """Answer the questions about a batch that has been predicted.

    Images that ask the same way are explained together, and an image with several targets repeats its feature maps
    for the head only.

    Args:
        network: what predicted.
        images: (N, C, H, W), as the network received them.
        features: (N, K, h, w), from `Network.predict`.
        scores: (N, classes), likewise.
        questions: one for each image; None where only scores are wanted.

    Returns:
        One answer for each image, None where nothing was asked.
    """
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, question in enumerate(questions):
        if question is not None:
            alike[question.method, question.layer].append(row)
    answers: list[Explanation | None] = [None] * len(questions)
    for (method, layer), rows in alike.items():
        cut = network.cut_at(layer)
        targets = [_targets(questions[row], scores[row]) for row in rows]
        repeats = torch.tensor([len(own) for own in targets], device=scores.device)
        chosen = torch.tensor([target for own in targets for target in own], device=scores.device)
        rows_features = _features_at(network, cut, images, features, rows).repeat_interleave(repeats, dim=0)
        maps = torch.split(METHODS[method](rows_features, cut.head, chosen).cpu(), [len(own) for own in targets])
        for row, own, own_maps in zip(rows, targets, maps, strict=True):
            answers[row] = Explanation(cut.layer.name, own, own_maps)
    return answers


def _targets(question: Question | None, scores: Tensor) -> tuple[int, ...]:
    assert question is not None
    return question.targets or (int(scores.argmax()),)


def _features_at(network: Network, cut: Cut, images: Tensor, features: Tensor, rows: list[int]) -> Tensor:
    """Feature maps of some rows at a layer; at the default layer they are there already."""
    if cut is network.cut:
        return features[rows]
    computed: Tensor = cut.backbone(images[rows])
    return computed
