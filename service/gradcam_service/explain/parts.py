"""Parts of a network as methods and the worker know them, whichever engine computes it. Torch-free.

`gradcam_service.explain.network` has them in torch, where whatever has a gradient can be differentiated;
`gradcam_service.compiled.network` in compiled graphs and NumPy, which have the gradients that they were compiled with.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from gradcam_service.explain.activation import Activation
from gradcam_service.explain.arrays import Array
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.layout import Layout
from gradcam_service.explain.objectives import Objective


class Layer(Protocol):
    """A place to cut, see `gradcam_service.explain.layers.Layer`."""

    @property
    def name(self) -> str:
        """As requests name it."""

    @property
    def channels(self) -> int:
        """K, how many feature maps there are."""

    @property
    def layout(self) -> Layout:
        """How its feature maps lie in memory."""


class Head(Protocol):
    """The part of a network from a cut to the scores, see `gradcam_service.explain.cut.Head`."""

    @property
    def weight(self) -> Array | None:
        """(classes, K) of the linear layer where it is global average pooling → linear, else None."""

    def scores(self, frontier: Frontier, *others: Array) -> Array:
        """Scores (N, classes), logit units."""

    def gradients(self, frontier: Frontier, objective: Objective, *others: Array) -> Array:
        """The gradient of each row's objective with respect to its feature maps, (M, K, h, w)."""


class Cut(Protocol):
    """A network cut at one layer, see `gradcam_service.explain.cut.Cut`."""

    @property
    def layer(self) -> Layer:
        """The layer that the network is cut at."""

    @property
    def backbone(self) -> object:
        """What is before it, the same of two cuts at one place."""

    @property
    def head(self) -> Head:
        """What is behind it."""

    def frontier(self, *inputs: Array) -> Frontier:
        """What crosses the cut, of some images and what other inputs there are."""


class Network(Protocol):
    """A network that can be predicted with and explained, see `gradcam_service.explain.network.Network`."""

    @property
    def others(self) -> tuple[str, ...]:
        """The names of its inputs beside the image."""

    @property
    def positions(self) -> int:
        """After how many tokens each it scores the words that may follow; 1 of a network without such."""

    @property
    def activation(self) -> Activation:
        """What makes probabilities of scores."""

    @property
    def cut(self) -> Cut:
        """At its default layer."""

    def undisturbed(self) -> AbstractContextManager[object]:
        """While in it, nothing else in this process keeps it from computing."""

    def differentiable(self) -> AbstractContextManager[object]:
        """While in it, what is made can be differentiated, whatever the caller's mode."""

    def cut_at(self, layer: str) -> Cut:
        """The network cut at a layer by name, or at its default layer for ``auto``.

        Raises:
            UnknownLayer: it can't be cut at a layer of that name.
        """

    def is_early(self, cut: Cut) -> bool:
        """Whether it is another cut than at the default layer, so that nearly the whole network may be behind it."""

    def predict(self, images: Array, *others: Array, alike: Sequence[int] | None = None) -> tuple[Frontier, Array]:
        """What crosses the cut at the default layer, and scores (N, classes) in logit units.

        Args:
            images: (N, C, H, W).
            others: the network's other inputs, N rows each.
            alike: for each row one that has the same image, the same of all those.
        """

    def scores(self, images: Array, *others: Array) -> Array:
        """Scores (N, classes), logit units."""

    def of_classes(self, scores: Array) -> Array:
        """Scores (N, classes), without a value behind them."""

    def probabilities(self, scores: Array) -> Array:
        """Probabilities (N, classes) of scores (N, classes); of words, at each position; a value stays as it is."""
