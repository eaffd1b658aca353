"""A network whose ReLUs let only positive gradients back: Springenberg et al., 2015, https://arxiv.org/abs/1412.6806."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import operator_name, scores_node

_WRITTEN_OTHERWISE = (("clamp", (0,)), ("clamp", (0, None)), ("clamp_min", (0,)), ("threshold", (0, 0)))
_UNGUIDED = ("gelu", "silu", "hardswish", "elu", "leaky_relu", "prelu", "mish", "celu", "selu", "rrelu", "softplus")


class _GuidedReLU(torch.autograd.Function):
    """ReLU that lets only positive gradients back: R = (a > 0) ⊙ (R' > 0) ⊙ R'. With ``limit``, it is ReLU6."""

    @staticmethod
    def forward(context: Any, values: Tensor, limit: float) -> Tensor:  # noqa: ANN401
        context.save_for_backward(values)
        context.limit = limit
        return values.clamp(0, limit)

    @staticmethod
    def backward(context: Any, gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (values,) = context.saved_tensors
        passed = (values > 0) & (values < context.limit) & (gradients > 0)
        return torch.where(passed, gradients, 0.0), None


def guided_relu(values: Tensor, limit: float) -> Tensor:
    """``values`` clamped to 0 … ``limit``, with the backward pass of `_GuidedReLU`."""
    clamped: Tensor = _GuidedReLU.apply(values, limit)
    return clamped


def unguided(network: fx.GraphModule) -> set[str]:
    """Activations in the network for which guided backpropagation is not defined."""
    return {operator_name(node) for node in network.graph.nodes} & set(_UNGUIDED)


def guide(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of the graph, of the same parameters, in which every ReLU is guided."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(network.graph, copies)
    graph.output(copies[scores_node(network.graph)])
    for node in graph.nodes:
        limit = _relu_limit(node)
        if limit is not None:
            node.target, node.args, node.kwargs = guided_relu, (node.args[0], limit), {}
    return fx.GraphModule(network, graph)


def _relu_limit(node: fx.Node) -> float | None:
    """Where a ReLU, however it is written, is cut off: infinity mostly; None for other operators."""
    name, bounds = operator_name(node), node.args[1:]
    if name == "relu" or (name, bounds) in _WRITTEN_OTHERWISE:
        return torch.inf
    return 6.0 if name == "relu6" or (name in ("hardtanh", "clamp") and bounds == (0, 6)) else None
