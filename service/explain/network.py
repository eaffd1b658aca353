"""A network that can be predicted with and explained: traced once, cut where asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from service.errors import UnknownLayer
from service.explain.cut import Cut, cut
from service.explain.graph import scores_node, shape_of, trace
from service.explain.layers import Layer, find_layers, last_convolutional


class Network:
    """A classifier, its layers, and its cuts.

    Nothing is ever hooked into or stored on the model: the parts are functions of their input, safe to call from any
    thread.

    Args:
        module: maps (N, C, H, W) float32 to scores (N, classes).
        input_shape: (C, H, W).
        layer: where to cut unless a request says otherwise; ``auto`` is the last convolutional layer.

    Attributes:
        layers: every layer that the network can be cut at, from the image to the scores.
        cut: the network cut at its default layer.
        classes: number of scores.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], layer: str = "auto") -> None:
        self._traced = trace(module, input_shape)
        graph = self._traced.graph
        self.layers = find_layers(graph)
        shape = shape_of(scores_node(graph))
        assert shape is not None
        (self.classes,) = shape
        self._cuts: dict[str, Cut] = {}
        self.cut = self.cut_at(last_convolutional(self.layers, graph).name if layer == "auto" else layer)

    def cut_at(self, layer: str) -> Cut:
        """The network cut at a layer by name, or at its default layer for ``auto``.

        Raises:
            UnknownLayer: no layer has that name.
        """
        if layer == "auto":
            return self.cut
        if layer not in self._cuts:
            found = next((known for known in self.layers if known.name == layer), None)
            if found is None:
                raise UnknownLayer(f"there is no layer {layer!r} to cut at; " + _known(self.layers))
            self._cuts[layer] = cut(self._traced, found)
        return self._cuts[layer]

    def to(self, device: torch.device) -> Network:
        """Move all parameters to ``device``."""
        self._traced.to(device)
        for known in self._cuts.values():
            known.backbone.to(device)
            known.head.module.to(device)
        return self

    @torch.no_grad()
    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, K, h, w) at the default layer and scores (N, classes), logit units, of images (N, C, H, W)."""
        features: Tensor = self.cut.backbone(images)
        return features, self.cut.head.scores(features)


def _known(layers: Sequence[Layer]) -> str:
    return "known are " + ", ".join(layer.name for layer in layers)
