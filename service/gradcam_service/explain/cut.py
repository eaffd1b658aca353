"""A network in two parts: the backbone that needs no gradient, and the head that is cheap to differentiate.

image (N, C, H, W) ──backbone──▶ features A (N, K, h, w) ──head──▶ scores y (N, classes)
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import image_node, is_size, operator_name, scores_node
from gradcam_service.explain.layers import Layer, dominators
from gradcam_service.explain.layout import Layout

_RESHAPING = ("view", "flatten", "reshape", "squeeze", "clone", "dropout", "contiguous", "alias")


Objective = Callable[[Tensor], Tensor]
"""What a row is explained for: scores (M, classes) → (M,), each from its own row alone."""


@dataclass(frozen=True, eq=False)
class Logit:
    """The objective that is the score of each row's class.

    Attributes:
        targets: (M,) int64.
    """

    targets: Tensor

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores (M, classes) → (M,)."""
        return scores.gather(1, self.targets[:, None])[:, 0]


@dataclass(frozen=True)
class Head:
    """The part of a network from the feature maps to the scores.

    Attributes:
        module: maps feature maps, as they lie in memory, to scores (N, classes).
        layout: how they lie.
        weight: (classes, K) of the linear layer where the head is global average pooling → linear, else None.
    """

    module: fx.GraphModule
    layout: Layout
    weight: Tensor | None

    def scores(self, features: Tensor) -> Tensor:
        """Scores (N, classes), logit units."""
        scores: Tensor = self.module(features)
        return scores

    def gradients(self, features: Tensor, objective: Objective) -> Tensor:
        """The gradient of each row's objective with respect to its feature maps.

        Where the head is global average pooling → linear, y = W · mean(A) + b and dL/dA_k = (dL/dy · W)_k / Z, Z = h·w,
        everywhere, of a logit W_ck / Z: no backward pass through the head. Elsewhere by automatic differentiation;
        rows don't mix, so the gradient of the sum over all rows is each row's own.

        Args:
            features: M rows of feature maps, as they lie in memory.
            objective: what to differentiate.

        Returns:
            (M, K, h, w), units of the objective per unit of activation.
        """
        if self.weight is None:
            return self.layout.to_grid(gradient(lambda leaf: objective(self.scores(leaf)), features))
        if isinstance(objective, Logit):
            weights = self.weight[objective.targets]
        else:
            with torch.no_grad():
                scores = self.scores(features)
            weights = gradient(objective, scores) @ self.weight
        h, w = self.layout.grid
        return (weights / (h * w))[:, :, None, None].expand(-1, -1, h, w)


def gradient(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """The gradient of each row's value of ``function`` at ``point``, rows being independent; of ``point``'s shape."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = (point.clone() if point.is_inference() else point.detach()).requires_grad_()
        (result,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return result


def logit_gradient(network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """The gradient of each image's target score with respect to the image, of the images' shape.

    Args:
        network: maps images (N, C, H, W) to scores (N, classes).
        images: where.
        targets: (N,) int64, class indices.
    """
    return gradient(lambda leaf: Logit(targets)(network(leaf)), images)


@dataclass(frozen=True)
class Cut:
    """A network cut at one layer.

    Attributes:
        layer: where.
        backbone: maps images (N, C, H, W) to feature maps, as they lie in memory.
        head: the rest.
    """

    layer: Layer
    backbone: fx.GraphModule
    head: Head


def cut(network: fx.GraphModule, layer: Layer) -> Cut:
    """Cut ``network`` at ``layer``; both parts share its parameters."""
    backbone = _part(network, image_node(network.graph), layer.node)
    head = _part(network, layer.node, scores_node(network.graph))
    return Cut(layer, backbone, Head(head, layer.layout, _pooled_linear_weight(head, layer.layout)))


def reaches_grid(network: fx.GraphModule, layer: Layer) -> bool:
    """Whether what is scored depends on the grid of the layer's feature maps, not on its prefix tokens alone.

    Asked of the value before the scores, since the last linear layer of an untrained network may be zero.
    """
    embedding = _part(network, layer.node, dominators(network.graph)[-2])
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, *(int(n) for n in layer.node.meta["val"].shape[1:]), generator=generator)
    # A random direction: the plain sum of a normalised vector is constant.
    direction = torch.randn(embedding(features).shape, generator=generator)
    return bool(layer.layout.to_grid(gradient(lambda leaf: embedding(leaf) * direction, features)).any())


def _part(network: fx.GraphModule, source: fx.Node, result: fx.Node) -> fx.GraphModule:
    """The nodes between ``source`` and ``result`` as a module of one input and one output."""
    graph = fx.Graph()
    copies = {source: graph.placeholder(source.name)}
    wanted = _needed(source, result)
    for node in network.graph.nodes:
        if node in wanted and _is_batch_size(node, source):
            copies[node] = graph.call_function(torch.ops.aten.sym_size.int, (copies[source], 0))
        elif node in wanted:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    for node, copy in copies.items():
        copy.meta = node.meta
    graph.output(copies[result])
    return fx.GraphModule(network, graph)


def _needed(source: fx.Node, result: fx.Node) -> set[fx.Node]:
    """All nodes that ``result`` is computed from, no further back than ``source``."""
    needed: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting.pop()
        if node is source or node in needed:
            continue
        needed.add(node)
        if not _is_batch_size(node, source):
            waiting += node.all_input_nodes
    return needed


def _is_batch_size(node: fx.Node, source: fx.Node) -> bool:
    """Whether the node's value is N, which any tensor of the batch can tell."""
    return is_size(node) and node.meta["val"] == source.meta["val"].shape[0]


def _pooled_linear_weight(head: fx.GraphModule, layout: Layout) -> Tensor | None:
    """The weight (classes, K) of a head that is global average pooling → linear, else None."""
    (features,) = head.graph.find_nodes(op="placeholder")
    pooling = _only_user(features)
    if pooling is None or not _is_global_average(pooling, layout):
        return None
    node = _only_user(pooling)
    while node is not None and operator_name(node) in _RESHAPING:
        node = _only_user(node)
    if node is None or operator_name(node) != "linear":
        return None
    last = _only_user(node)
    if last is not None and _adds_constant(last):  # ONNX files of Keras models write the bias so
        last = _only_user(last)
    if last is None or last.op != "output":
        return None
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or not isinstance(weight.target, str):
        return None
    value: Tensor = operator.attrgetter(weight.target)(head)
    return value


def _adds_constant(node: fx.Node) -> bool:
    """Whether the node adds parameters to another value, and nothing else."""
    kinds = [getattr(value, "op", "number") for value in node.args]
    return operator_name(node) == "add" and not node.kwargs and kinds.count("get_attr") == len(kinds) - 1


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses this one's tensor, or None where there are several. Sizes don't count."""
    users = [user for user in node.users if not is_size(user)]
    return users[0] if len(users) == 1 else None


def _is_global_average(node: fx.Node, layout: Layout) -> bool:
    """Whether the node averages over the whole grid, and nothing but the grid."""
    if operator_name(node) == "adaptive_avg_pool2d":
        return layout.channels == 1 and list(node.args[1]) == [1, 1]  # type: ignore[arg-type]
    if operator_name(node) == "mean" and len(node.args) > 1:
        rank = 3 if layout.channels == 2 else 4
        averaged = sorted(dim % rank for dim in node.args[1])  # type: ignore[union-attr, operator]
        return averaged == {1: [2, 3], 3: [1, 2], 2: [1]}[layout.channels] and layout.prefix == 0
    return False
