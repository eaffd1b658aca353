"""A network that can be predicted with and explained: traced once, cut where asked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, fx, nn

from gradcam_service.errors import UnknownLayer, UnsupportedMethod
from gradcam_service.explain.cut import Cut, cut, reaches_grid
from gradcam_service.explain.frontier import Frontier, Values
from gradcam_service.explain.graph import TRACING, has_foreign_operators, logits_of, scores_node, shape_of, trace
from gradcam_service.explain.guide import guide
from gradcam_service.explain.layers import Layer, before_final_pooling, find_layers, input_layer

Activation = Literal["softmax", "sigmoid"]

Backbone = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) → feature maps, as they lie in memory; called without autograd."""


class Network:
    """A classifier, its layers, and its cuts.

    Nothing is ever hooked into or stored on the model: the parts are functions of their input, safe to call from any
    thread; where another may be tracing a network, `undisturbed`.

    Args:
        module: maps (N, C, H, W) float32 to scores (N, classes). Where it ends in the activation, scores are what the
            activation is applied to.
        input_shape: (C, H, W).
        layer: where to cut unless a request says otherwise; ``auto`` is the paper's last convolutional layer.
        activation: what makes probabilities of scores.

    Attributes:
        layers: every layer that the network can be cut at, from the image to the scores; of a network without feature
            maps, its input alone.
        cut: the network cut at its default layer.
        backbone: what computes the values that cross this cut.
        classes: number of scores.
        traced: the whole network.

    Raises:
        UnsupportedMethod: it does not answer with scores, or it ends in another activation.
        UnknownLayer: it has none of that name.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        layer: str = "auto",
        activation: Activation = "softmax",
    ) -> None:
        self.traced = logits_of(trace(module, input_shape), activation)
        self.layers = find_layers(self.traced.graph) or (input_layer(self.traced.graph),)
        self.activation = activation
        shape = shape_of(scores_node(self.traced.graph))
        if shape is None or len(shape) != 1:
            raise UnsupportedMethod("the network does not answer with one row of scores for each image")
        (self.classes,) = shape
        self._foreign = has_foreign_operators(self.traced.graph)
        self._cuts: dict[str, Cut] = {}
        self.cut = self._last_convolutional() if layer == "auto" else self.cut_at(layer)
        self.backbone: Callable[[Tensor], Values] = self.cut.backbone

    @property
    def opaque(self) -> str:
        """Why nothing but the network's scores is known, where it is a black box; else empty."""
        return str(self.traced.meta.get("opaque", ""))

    def undisturbed(self) -> AbstractContextManager[object]:
        """While in it, no other thread traces, if this network has operators that fail then."""
        return TRACING if self._foreign else nullcontext()

    def cut_at(self, layer: str) -> Cut:
        """The network cut at a layer by name, or at its default layer for ``auto``.

        Raises:
            UnknownLayer: no layer has that name; those that there are are named.
        """
        if layer == "auto":
            return self.cut
        if layer not in self._cuts:
            self._cuts[layer] = cut(self.traced, self._layer(layer))
        return self._cuts[layer]

    def to(self, device: torch.device) -> Network:
        """Move all parameters to ``device``."""
        self.traced.to(device)
        self.__dict__.pop("guided", None)  # made again from what has moved
        for known in self._cuts.values():
            known.backbone.to(device)
            known.head.module.to(device)
        return self

    def with_backbone(self, backbone: Backbone) -> Network:
        """The same network, its parameters shared, that leaves the feature maps of its default layer to another."""
        other = copy.copy(self)
        other.backbone = backbone
        return other

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Frontier, Tensor]:
        """What crosses the cut at the default layer and scores (N, classes), logit units, of images (N, C, H, W)."""
        frontier = self.cut.gathered(self.backbone(images))
        return frontier, self.cut.head.scores(frontier)

    def scores(self, images: Tensor) -> Tensor:
        """Scores (N, classes), logit units, of images (N, C, H, W)."""
        return self.predict(images)[1]

    def probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities (N, classes) of scores (N, classes)."""
        return scores.softmax(1) if self.activation == "softmax" else scores.sigmoid()

    @cached_property
    def guided(self) -> fx.GraphModule:
        """The whole network with guided ReLUs."""
        return guide(self.traced)

    def _layer(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise UnknownLayer(f"there is no layer {name!r} that every path crosses; there are {known}")

    def _last_convolutional(self) -> Cut:
        """The cut at the paper's "last convolutional layer": the last before the final pooling.

        Where a class token gathers the evidence, the patches' tokens have no part in the scores after the last
        attention; the layer is the last one at which they have.
        """
        for layer in reversed(before_final_pooling(self.layers, self.traced.graph)):
            if layer.layout.prefix == 0 or reaches_grid(self.traced, layer):
                return self.cut_at(layer.name)
        self.layers = (input_layer(self.traced.graph),)
        return self.cut_at(self.layers[0].name)
