"""A network in compiled graphs and NumPy: see `gradcam_service.explain.parts`. Torch-free.

It is cut where it was compiled, and knows the gradient of the scores with respect to the feature maps there, no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from gradcam_service.errors import UnknownLayer, UnsupportedMethod
from gradcam_service.explain import parts
from gradcam_service.explain.activation import Activation, probabilities
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.layout import Layout
from gradcam_service.explain.objectives import Differentiable, Objective
from gradcam_service.runtime import Graph

NEEDS_FULL_MODEL = "compiled models don't have the gradient that this takes; the full model has, and needs torch"


@dataclass(frozen=True)
class CompiledHead:
    """See `gradcam_service.explain.parts.Head`.

    Attributes:
        graph: from the frontier and other inputs to scores.
        gradient: from the same and an objective to the gradient; None where the head is linear, or has none.
        layout: of the feature maps.
        outputs: how many scores there are.
        weight: (classes, K), where it is global average pooling → linear.
    """

    graph: Graph
    gradient: Graph | None
    layout: Layout
    outputs: int
    weight: np.ndarray | None = None

    def scores(self, frontier: Frontier, *others: np.ndarray) -> np.ndarray:
        """Scores (N, classes), logit units."""
        return self.graph(frontier.features, *frontier.rest, *others)[0]

    def gradients(self, frontier: Frontier, objective: Objective, *others: np.ndarray) -> np.ndarray:
        """The gradient of each row's objective with respect to its feature maps, (M, K, h, w).

        Raises:
            UnsupportedMethod: the objective doesn't know its own gradient, as one that is written in torch.
        """
        if not isinstance(objective, Differentiable):
            raise UnsupportedMethod(f"this target is explained by differentiating it: {NEEDS_FULL_MODEL}")
        unknown = np.zeros((len(frontier.features), self.outputs), np.float32)
        outputs = unknown if objective.linear else self.scores(frontier, *others)
        weights = objective.gradient(outputs).astype(np.float32, copy=False)
        if self.weight is not None:
            h, w = self.layout.seen
            averaged = (weights @ self.weight / (h * w))[:, :, None, None]
            return np.broadcast_to(averaged, (*averaged.shape[:2], h, w))
        if self.gradient is None:
            raise UnsupportedMethod(NEEDS_FULL_MODEL)
        return self.gradient(frontier.features, *frontier.rest, *others, weights)[0]


@dataclass(frozen=True)
class Layer:
    """A layer that the network was compiled at; see `gradcam_service.explain.parts.Layer`."""

    name: str
    channels: int
    layout: Layout


@dataclass(frozen=True)
class CompiledCut:
    """See `gradcam_service.explain.parts.Cut`.

    Attributes:
        layer: where.
        backbone: from images to the feature maps as they lie in memory, and the other live values.
        head: the rest.
        axes: of the other live values.
    """

    layer: Layer
    backbone: Graph
    head: CompiledHead
    axes: tuple[int | None, ...] = ()

    def frontier(self, *inputs: np.ndarray) -> Frontier:
        """What crosses the cut, of some images."""
        features, *rest = self.backbone(inputs[0])
        return Frontier(features, tuple(rest), self.axes)


@dataclass(frozen=True)
class CompiledNetwork:
    """See `gradcam_service.explain.parts.Network`.

    Attributes:
        cuts: by the names of their layers, the default one first.
        activation: what makes probabilities of scores.
        positions: of words, at how many places each has a score.
        values: how many of the scores, the last, are values of the image beside its classes.
        others: the names of its inputs beside the image.
    """

    cuts: dict[str, CompiledCut]
    activation: Activation
    positions: int = 1
    values: int = 0
    others: tuple[str, ...] = ()

    @property
    def cut(self) -> CompiledCut:
        """At the default layer."""
        return next(iter(self.cuts.values()))

    def undisturbed(self) -> AbstractContextManager[object]:
        """Nothing disturbs it."""
        return nullcontext()

    def differentiable(self) -> AbstractContextManager[object]:
        """Nothing is differentiated here."""
        return nullcontext()

    def cut_at(self, layer: str) -> CompiledCut:
        """The network cut at a layer by name, or at its default layer for ``auto``.

        Raises:
            UnknownLayer: it was not compiled at a layer of that name.
        """
        if layer == "auto":
            return self.cut
        if layer not in self.cuts:
            raise UnknownLayer.named(layer, self.cuts, self.cuts)
        return self.cuts[layer]

    def is_early(self, cut: parts.Cut) -> bool:
        """Whether it is another cut than at the default layer."""
        return cut.backbone is not self.cut.backbone

    def predict(
        self, images: np.ndarray, *others: np.ndarray, alike: Sequence[int] | None = None
    ) -> tuple[Frontier, np.ndarray]:
        """What crosses the cut at the default layer, and scores (N, classes) in logit units."""
        rows = [*range(len(images))] if alike is None else sorted(set(alike))
        frontier = self.cut.frontier(images if len(rows) == len(images) else images[rows])
        if alike is not None:
            frontier = frontier.rows([rows.index(row) for row in alike])
        return frontier, self.cut.head.scores(frontier, *others)

    def scores(self, images: np.ndarray, *others: np.ndarray) -> np.ndarray:
        """Scores (N, classes), logit units."""
        return self.predict(images, *others)[1]

    def of_classes(self, scores: np.ndarray) -> np.ndarray:
        """Scores (N, classes), without a value behind them."""
        return scores[:, : scores.shape[1] - self.values]

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) of scores (N, classes)."""
        found: np.ndarray = probabilities(scores, self.activation, self.positions, self.values)
        return found
