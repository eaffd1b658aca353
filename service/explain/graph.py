"""A module as a flat graph of side-effect-free operators, ready to be cut anywhere."""

from __future__ import annotations

import torch
from torch import SymInt, fx, nn


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> fx.GraphModule:
    """Export ``module`` to a graph whose nodes know their shapes and never write into each other's tensors.

    In-place operators are made functional: a head that began with ``relu_`` would otherwise overwrite the very feature
    maps that are being explained (https://docs.pytorch.org/docs/stable/export.html).

    Args:
        module: maps (N, C, H, W) float32 to scores (N, classes) float32, for every N. It is put in evaluation mode.
        input_shape: (C, H, W).

    Returns:
        The graph, with a dynamic batch dimension, sharing the module's parameters, none of which requires a gradient.
    """
    module.eval().requires_grad_(False)
    example = torch.zeros(2, *input_shape)  # a batch of one would be taken for a constant
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    graph_module = program.run_decompositions({}).module()
    assert isinstance(graph_module, fx.GraphModule)
    for node in graph_module.graph.find_nodes(op="call_module", target="_guards_fn"):
        graph_module.graph.erase_node(node)  # checks of the input's shape, which the worker has made already
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return graph_module.requires_grad_(False)


def image_node(graph: fx.Graph) -> fx.Node:
    """The graph's one input."""
    node: fx.Node
    (node,) = graph.find_nodes(op="placeholder")
    return node


def scores_node(graph: fx.Graph) -> fx.Node:
    """The node whose value the graph returns: (N, classes)."""
    node: fx.Node
    (output,) = graph.find_nodes(op="output")
    (node,) = output.all_input_nodes
    return node


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's value without its batch dimension, or None where the value is not a tensor."""
    value = node.meta.get("val")
    return tuple(int(n) for n in value.shape[1:]) if isinstance(value, torch.Tensor) else None


def operator_name(node: fx.Node) -> str:
    """``relu`` for ``aten.relu.default``; the node's own name where it is no operator."""
    name: str = getattr(node.target, "__name__", node.name)
    return name.split(".")[0]


def is_size(node: fx.Node) -> bool:
    """Whether the node's value is a size (an int), not a tensor or a tuple of tensors."""
    return isinstance(node.meta.get("val"), int | SymInt)
