"""Folds batch normalisation into the convolution before it."""

from __future__ import annotations

import copy
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gradcam_service.explain.graph import operator_name

_NORMALISATION = torch.ops.aten._native_batch_norm_legit_no_training.default


def folded(network: fx.GraphModule) -> fx.GraphModule:
    """Copy a graph so that each convolution also does the batch normalisation that alone uses it.

    γ · (w∗x + b − μ) / σ + β is a convolution with w·γ/σ and the bias (b − μ)·γ/σ + β. All other parameters are shared.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    result = fx.GraphModule(network, graph)
    for normalisation in graph.find_nodes(op="call_function", target=_NORMALISATION):
        convolution = normalisation.all_input_nodes[0]
        if operator_name(convolution) == "conv2d" and len(convolution.users) == 1:
            _fold(result, convolution, normalisation)
    graph.eliminate_dead_code()
    result.delete_all_unused_submodules()
    result.recompile()
    return result


def channels_last(network: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """Copy a graph, `folded`, with its own parameters: of a type, and in the order that convolutions like best."""
    return copy.deepcopy(folded(network)).to(dtype).to(memory_format=torch.channels_last)


def _fold(network: fx.GraphModule, convolution: fx.Node, normalisation: fx.Node) -> None:
    image, weight, bias, *rest = (*convolution.args, None)[: max(3, len(convolution.args))]
    gamma, beta, mean, variance, _, epsilon = normalisation.args[1:]
    of = partial(_parameter, network)
    fused = fuse_conv_bn_weights(of(weight), of(bias), of(mean), of(variance), epsilon, of(gamma), of(beta))  # type: ignore[arg-type]
    nodes = []
    with network.graph.inserting_before(convolution):
        for kind, value in zip(("weight", "bias"), fused, strict=True):
            network.register_buffer(name := f"{convolution.name}_folded_{kind}", value.detach())
            nodes.append(network.graph.get_attr(name))
    convolution.args = (image, *nodes, *rest)
    for user in list(normalisation.users):  # its first output is all that is used in evaluation
        user.replace_all_uses_with(convolution)


def _parameter(network: fx.GraphModule, node: object) -> Any:  # noqa: ANN401  a tensor, or None where there is none
    return attrgetter(str(node.target))(network) if isinstance(node, fx.Node) else None
