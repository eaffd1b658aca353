"""A network that can be predicted with and explained: traced once, cut where asked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor, fx, nn

from gradcam_service.errors import UnknownLayer, UnsupportedMethod
from gradcam_service.explain import parts
from gradcam_service.explain.activation import Activation, probabilities
from gradcam_service.explain.cut import Cut, cut
from gradcam_service.explain.default_layer import default_layers
from gradcam_service.explain.divide import Values
from gradcam_service.explain.endings import positions_of, scores_of, values_of
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.graph import (
    TRACING,
    forget_sources,
    has_foreign_operators,
    scores_node,
    shape_of,
)
from gradcam_service.explain.guide import guide
from gradcam_service.explain.joint import join
from gradcam_service.explain.layers import Layer, find_layers, input_layer
from gradcam_service.explain.tracing import Inputs, trace

Backbone = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) → feature maps, as they lie in memory; called without autograd."""

_MOST_CUTS = 32
"""How many are kept, beside the one at the default layer: a network may have hundreds of layers."""


class Network:
    """A network, its layers, and its cuts.

    Nothing is ever hooked into or stored on the model: the parts are functions of their input, safe to call from any
    thread; where another may be tracing a network, `undisturbed`.

    Args:
        module: maps images (N, C, H, W) float32 to scores (N, classes). Where it ends in the activation, scores are
            what the activation is applied to.
        inputs: (C, H, W), or examples of all inputs by name where there are others than the images.
        layer: where to cut unless a request says otherwise; ``auto`` is the paper's last convolutional layer. Where
            branches end apart it is their last ones as one (see `gradcam_service.explain.joint`), or else the last.
        activation: what makes probabilities of scores.
        output: which of the module's outputs they are, where there are several.

    Attributes:
        layers: those that every path crosses, from the image to the scores, and the default one; of a network without
            feature maps, its input alone.
        every_layer: all that the network can be cut at, by every name that they have.
        cut: the network cut at its default layer.
        backbone: what computes the values that cross this cut.
        traced: the whole network.
        values: how many of the scores, the last, are values of the image beside its classes: none or one.

    Raises:
        UnsupportedMethod: its output is none that `trace` takes, or it ends in another activation.
        UnknownLayer: it has none of that name.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Inputs,
        layer: str = "auto",
        activation: Activation = "softmax",
        output: str | int | None = None,
    ) -> None:
        self.traced = scores_of(trace(module, inputs, output=output), activation)
        found = find_layers(self.traced.graph)
        defaults = default_layers(self.traced, found) if layer == "auto" else ()
        if len(defaults) > 1 and (joined := join(self.traced, defaults)) is not None:
            self.traced, defaults = joined[0], joined[1:]
            found = find_layers(self.traced.graph)
        self.every_layer = found.by_name
        self.layers = found.crossed
        self.activation = activation
        self.values = values_of(self.traced)
        self._foreign = has_foreign_operators(self.traced.graph)
        self._cut = lru_cache(_MOST_CUTS)(partial(_cut, self.traced))
        if layer != "auto":
            defaults = (self._layer(layer),)
        *_, default = (input_layer(self.traced.graph), *defaults)
        if default not in self.layers:
            self.layers = (*self.layers, default) if defaults else (default,)
        self.cut = self._cut(default)
        self.backbone: Callable[..., Values] = self.cut.backbone

    @property
    def classes(self) -> int:
        """Number of scores of classes, of a network of words those of one position.

        Raises:
            UnsupportedMethod: it does not answer with scores.
        """
        shape = shape_of(scores_node(self.traced.graph))
        if shape is None or len(shape) != 1:
            came = "no tensor of a known shape" if shape is None else f"({', '.join(['N', *map(str, shape)])})"
            raise UnsupportedMethod(
                f"the network does not answer with one row of scores for each image but with {came}; "
                "return scores (N, classes)"
            )
        return (shape[0] - self.values) // self.positions

    @property
    def positions(self) -> int:
        """After how many tokens each it scores the words that may follow; 1 of a network without such."""
        return positions_of(self.traced)

    @property
    def others(self) -> tuple[str, ...]:
        """The names of its inputs beside the image."""
        return tuple(node.name for node in self.traced.graph.find_nodes(op="placeholder")[1:])

    def of_classes(self, scores: Tensor) -> Tensor:
        """Scores (N, classes), without a value behind them."""
        return scores[:, : scores.shape[1] - self.values]

    @property
    def opaque(self) -> str:
        """Why nothing but the network's scores is known, where it is a black box; else empty."""
        return str(self.traced.meta.get("opaque", ""))

    def undisturbed(self) -> AbstractContextManager[object]:
        """While in it, no other thread traces, if this network has operators that fail then."""
        return TRACING if self._foreign else nullcontext()

    def differentiable(self) -> AbstractContextManager[object]:
        """While in it, what is made can be differentiated, whatever the caller's mode."""
        return torch.inference_mode(False)

    def cut_at(self, layer: str) -> Cut:
        """The network cut at a layer by name, or at its default layer for ``auto``.

        Raises:
            UnknownLayer: no layer has that name; those that every path crosses are named, and those most like it.
        """
        if layer == "auto" or layer == self.cut.layer.name:
            return self.cut
        found = self._layer(layer)
        return replace(self.cut, layer=found) if found.node is self.cut.layer.node else self._cut(found)

    def is_early(self, cut: parts.Cut) -> bool:
        """Whether it is another cut than at the default layer, so that nearly the whole network may be behind it."""
        return cut.backbone is not self.cut.backbone

    def to(self, device: torch.device) -> Network:
        """Move all parameters to ``device``."""
        if {tensor.device for tensor in self.traced.state_dict().values()} <= {device}:
            return self
        self.traced.to(device)
        for made in ("guided", "of_images"):  # made again from what has moved
            self.__dict__.pop(made, None)
        self._cut.cache_clear()  # cuts, too: buffers and products of weights in them are copies
        self.cut = self._cut(self.cut.layer)
        self.backbone = self.cut.backbone
        return self

    def with_backbone(self, backbone: Backbone) -> Network:
        """The same network, its parameters shared, that leaves the feature maps of its default layer to another."""
        other = copy.copy(self)
        other.backbone = (lambda images, *_: backbone(images)) if self.others else backbone
        return other

    @cached_property
    def of_images(self) -> fx.GraphModule:
        """The backbone, as a function of images alone where it `shares_images`."""
        backbone = self.cut.backbone
        if not self.shares_images:
            return backbone
        graph = fx.Graph()
        graph.output(graph.graph_copy(backbone.graph, {}))
        for other in graph.find_nodes(op="placeholder")[1:]:
            graph.erase_node(other)
        return fx.GraphModule(backbone, graph)

    @cached_property
    def shares_images(self) -> bool:
        """Whether the backbone needs to see an image once for all that is asked about it.

        So it is where other inputs come in behind the default layer: late fusion, a caption's words.
        """
        _, *others = self.cut.backbone.graph.find_nodes(op="placeholder")
        return bool(others) and not any(other.users for other in others)

    @torch.no_grad()
    def predict(self, images: Tensor, *others: Tensor, alike: Sequence[int] | None = None) -> tuple[Frontier, Tensor]:
        """What crosses the cut at the default layer, and scores (N, classes) in logit units.

        Args:
            images: (N, C, H, W).
            others: the network's other inputs, N rows each.
            alike: for each row one that has the same image, the same of all those; these pass the backbone once
                where the network takes no other inputs, or `shares_images`.
        """
        if alike is None or (others and not self.shares_images):
            frontier = self.cut.gathered(self.backbone(images, *others))
        else:
            rows = sorted(set(alike))
            values = self.backbone(images[rows], *(other[rows] for other in others))
            frontier = self.cut.gathered(values).rows([rows.index(row) for row in alike])
        return frontier, self.cut.head.scores(frontier, *others)

    def scores(self, images: Tensor, *others: Tensor) -> Tensor:
        """Scores (N, classes), logit units; see `predict`."""
        return self.predict(images, *others)[1]

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities (N, classes) of scores (N, classes); of words, at each position; a value stays as it is."""
        found: Tensor = probabilities(scores, self.activation, self.positions, self.values)
        return found

    @cached_property
    def guided(self) -> fx.GraphModule:
        """The whole network with guided ReLUs."""
        return guide(self.traced)

    def _layer(self, name: str) -> Layer:
        known = {layer.name: layer for layer in self.layers} | self.every_layer
        if name not in known:
            raise UnknownLayer.named(name, (layer.name for layer in self.layers), known)
        return known[name]


def _cut(network: fx.GraphModule, layer: Layer) -> Cut:
    made = cut(network, layer)
    forget_sources()
    return made
