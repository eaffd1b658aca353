"""A network in two parts: the backbone that needs no gradient, and the head that is cheap to differentiate.

image (N, C, H, W) ──backbone──▶ features A (N, K, h, w) ──head──▶ scores y (N, classes)
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from service.explain.graph import image_node, is_size, operator_name, scores_node
from service.explain.layers import Layer

_RESHAPING = ("view", "flatten", "reshape", "squeeze", "clone", "dropout", "contiguous", "alias")


@dataclass(frozen=True)
class Head:
    """The part of a network from the feature maps to the scores.

    Attributes:
        module: maps features (N, K, h, w) to scores (N, classes).
        weight: (classes, K) of the linear layer where the head is global average pooling → linear, else None.
    """

    module: fx.GraphModule
    weight: Tensor | None

    def scores(self, features: Tensor) -> Tensor:
        """Scores (N, classes), logit units, of features (N, K, h, w)."""
        scores: Tensor = self.module(features)
        return scores

    def gradients(self, features: Tensor, targets: Tensor) -> Tensor:
        """The gradient of each row's target score with respect to its feature maps.

        Where the head is global average pooling → linear, y_c = Σ_k w_ck · mean(A_k) + b_c, so dy_c/dA_k = w_ck / Z
        everywhere, Z = h·w: no backward pass. Elsewhere by automatic differentiation; rows don't mix, so the gradient
        of the sum of all rows' scores is each row's own.

        Args:
            features: (M, K, h, w).
            targets: (M,) int64, class indices.

        Returns:
            (M, K, h, w), logit units per unit of activation.
        """
        if self.weight is not None:
            constant = self.weight[targets] / (features.shape[2] * features.shape[3])
            return constant[:, :, None, None].expand_as(features)
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            chosen = self.scores(leaf).gather(1, targets[:, None]).sum()
            (gradients,) = torch.autograd.grad(chosen, leaf)
        return gradients


@dataclass(frozen=True)
class Cut:
    """A network cut at one layer.

    Attributes:
        layer: where.
        backbone: maps images (N, C, H, W) to features (N, K, h, w).
        head: the rest.
    """

    layer: Layer
    backbone: fx.GraphModule
    head: Head


def cut(network: fx.GraphModule, layer: Layer) -> Cut:
    """Cut ``network`` at ``layer``; both parts share its parameters."""
    backbone = _part(network, image_node(network.graph), layer.node)
    head = _part(network, layer.node, scores_node(network.graph))
    return Cut(layer, backbone, Head(head, _pooled_linear_weight(head)))


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


def _pooled_linear_weight(head: fx.GraphModule) -> Tensor | None:
    """The weight (classes, K) of a head that is global average pooling → linear, else None."""
    (features,) = head.graph.find_nodes(op="placeholder")
    pooling = _only_user(features)
    if pooling is None or not _is_global_average(pooling):
        return None
    node = _only_user(pooling)
    while node is not None and operator_name(node) in _RESHAPING:
        node = _only_user(node)
    if node is None or operator_name(node) != "linear" or next(iter(node.users)).op != "output":
        return None
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    assert isinstance(weight.target, str)
    value: Tensor = operator.attrgetter(weight.target)(head)
    return value


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses this one's tensor, or None where there are several. Sizes don't count."""
    users = [user for user in node.users if not is_size(user)]
    return users[0] if len(users) == 1 else None


def _is_global_average(node: fx.Node) -> bool:
    if operator_name(node) == "adaptive_avg_pool2d":
        return list(node.args[1]) == [1, 1]  # type: ignore[arg-type]
    if operator_name(node) == "mean":
        return sorted(dim % 4 for dim in node.args[1]) == [2, 3]  # type: ignore[union-attr, operator]
    return False
