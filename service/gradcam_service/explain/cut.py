"""A network in two parts: the backbone that needs no gradient, and the head that is cheap to differentiate.

image (N, C, H, W) ──backbone──▶ features A (N, K, h, w), other live values ──head──▶ scores y (N, classes)
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, fx

from gradcam_service.explain.divide import Values, divide
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.graph import is_reshaped, is_size, operator_name, shape_of
from gradcam_service.explain.layers import Layer
from gradcam_service.explain.layout import Layout
from gradcam_service.explain.objectives import Logit, Objective


@dataclass(frozen=True)
class Head:
    """The part of a network from a cut to the scores.

    Attributes:
        module: maps feature maps as they lie in memory, the other live values and other inputs than the image to
            scores (N, classes).
        layout: how they lie.
        weight: (classes, K) of the linear layer where the head is global average pooling → linear, else None.
    """

    module: fx.GraphModule
    layout: Layout
    weight: Tensor | None

    def scores(self, frontier: Frontier, *others: Tensor) -> Tensor:
        """Scores (N, classes), logit units.

        Args:
            frontier: of N images.
            others: the network's other inputs, N rows each.
        """
        scores: Tensor = self.module(frontier.features, *frontier.rest, *others)
        return scores

    def gradients(self, frontier: Frontier, objective: Objective, *others: Tensor) -> Tensor:
        """The gradient of each row's objective with respect to its feature maps, all else being constant.

        Where the head is global average pooling → linear, y = W · mean(A) + b and dL/dA_k = (dL/dy · W)_k / Z, Z = h·w,
        everywhere, of a logit W_ck / Z: no backward pass through the head. Elsewhere by automatic differentiation;
        rows don't mix, so the gradient of the sum over all rows is each row's own.

        Args:
            frontier: M rows.
            objective: what to differentiate.
            others: the network's other inputs, M rows each.

        Returns:
            (M, K, h, w), units of the objective per unit of activation.
        """
        if self.weight is None:
            constant = _recordable(frontier)

            def explained(leaf: Tensor) -> Tensor:
                value: Tensor = objective(self.scores(constant.having(leaf), *others))
                return value

            grid: Tensor = self.layout.to_grid(gradient(explained, constant.features))
            return grid
        if isinstance(objective, Logit):
            weights = self.weight[objective.targets]
        else:
            with torch.no_grad():
                scores = self.scores(frontier, *others)
            weights = gradient(objective, scores) @ self.weight
        h, w = self.layout.seen
        return (weights / (h * w))[:, :, None, None].expand(-1, -1, h, w)


def _recordable(frontier: Frontier) -> Frontier:
    """The same values, in a form that automatic differentiation may keep; it doesn't those of inference mode."""
    with torch.inference_mode(False):
        rest = tuple(
            value.clone() if isinstance(value, Tensor) and value.is_inference() else value for value in frontier.rest
        )
    return replace(frontier, rest=rest)


def gradient(function: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """The gradient of each row's value of ``function`` at ``point``, rows being independent; of ``point``'s shape."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = (point.clone() if point.is_inference() else point.detach()).requires_grad_()
        (result,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return result


@dataclass(frozen=True)
class Cut:
    """A network cut at one layer.

    Attributes:
        layer: where.
        backbone: maps images (N, C, H, W), and what other inputs there are, to feature maps as they lie in memory, or
            to these and the other live values where there are any.
        head: the rest.
        axes: of the other live values, see `Frontier`; empty where every path crosses the layer.
    """

    layer: Layer
    backbone: fx.GraphModule
    head: Head
    axes: tuple[int | None, ...] = ()

    @torch.no_grad()
    def frontier(self, *inputs: Tensor) -> Frontier:
        """What crosses the cut, of some images and what other inputs there are."""
        return self.gathered(self.backbone(*inputs))

    def gathered(self, values: Values) -> Frontier:
        """What crosses the cut, from what the backbone returned, or another that computes the same."""
        if isinstance(values, Tensor):
            return Frontier(values)
        features, *rest = values
        assert isinstance(features, Tensor)
        return Frontier(features, tuple(rest), self.axes)


def cut(network: fx.GraphModule, layer: Layer) -> Cut:
    """Cut ``network`` at ``layer``; both parts share its parameters."""
    halves = divide(network, layer.node)
    head = Head(halves.head, layer.layout, _pooled_linear_weight(halves.head, layer.layout))
    return Cut(layer, halves.backbone, head, halves.axes)


def _pooled_linear_weight(head: fx.GraphModule, layout: Layout) -> Tensor | None:
    """The weight (classes, K) of a head that is global average pooling → linear layers, their product; else None."""
    features, *others = head.graph.find_nodes(op="placeholder")
    if any(other.users for other in others):
        return None
    pooling = _only_user(features)
    if pooling is None or not _is_global_average(pooling, layout):
        return None
    node, weight = _only_user(pooling), None
    while node is not None and node.op != "output":
        if operator_name(node) == "linear":
            own = _linear_weight(head, node)
            if own is None:
                return None
            weight = own if weight is None else own @ weight
        elif not (is_reshaped(node) or operator_name(node) == "dropout" or (weight is not None and _adds(node))):
            return None
        node = _only_user(node)
    return None if node is None else weight


def _linear_weight(head: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The weight of a linear layer that takes all of a row at once, else None."""
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or not isinstance(weight.target, str):
        return None
    value: Tensor = operator.attrgetter(weight.target)(head)
    return value if prod(shape_of(node.all_input_nodes[0]) or ()) == value.shape[1] else None


def _adds(node: fx.Node) -> bool:
    """Whether the node adds parameters to a value, and nothing else, as ONNX files of Keras models do the bias."""
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
