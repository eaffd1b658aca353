"""A module as a flat graph of side-effect-free operators, ready to be cut anywhere."""

from __future__ import annotations

import linecache
import threading
from typing import TypeGuard

import torch
from torch import SymInt, fx, nn
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from gradcam_service.errors import UnsupportedMethod

TRACING = threading.Lock()
"""Held while torch traces. It does so for the whole process (``torch.compiler.is_exporting``, annotations of nodes): an
operator written in Python that another thread calls then takes part in it, and fails."""


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> fx.GraphModule:
    """Export ``module`` to a graph whose nodes know their shapes and never write into each other's tensors.

    In-place operators are made functional: a head that began with ``relu_`` would otherwise overwrite the very feature
    maps that are being explained (https://docs.pytorch.org/docs/stable/export.html).

    Args:
        module: maps (N, C, H, W) float32 to scores (N, classes) float32, for every N. It is put in evaluation mode.
            One that `is_flat` is returned as it is.
        input_shape: (C, H, W).

    Returns:
        The graph, with a dynamic batch dimension, sharing the module's parameters, none of which requires a gradient.
    """
    if is_flat(module):
        return module
    module.eval().requires_grad_(False)
    example = torch.zeros(2, *input_shape)  # a batch of one would be taken for a constant
    with TRACING:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    return of_program(program)


def of_program(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """An exported program as such a graph."""
    # Guards would check the input's shape, which the worker has done, and run code out of the file.
    with TRACING:
        graph_module = program.run_decompositions({}).module(check_guards=False)
    assert isinstance(graph_module, fx.GraphModule)
    graph_module._forward_pre_hooks.clear()  # the same checks in another place
    release(graph_module.graph)
    return flat(graph_module)


def flat(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Declare a graph to be what `trace` returns: it is used as it is, its dead code apart."""
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    graph_module.meta["flat"] = True
    return graph_module.requires_grad_(False)


def is_flat(module: nn.Module) -> TypeGuard[fx.GraphModule]:
    """Whether a module has been declared to be such a graph."""
    return isinstance(module, fx.GraphModule) and bool(module.meta.get("flat"))


def logits_of(graph_module: fx.GraphModule, activation: str) -> fx.GraphModule:
    """The graph without the softmax or sigmoid that it ends in, if it does: scores are in logit units.

    Raises:
        UnsupportedMethod: what it ends in is not ``activation``.
    """
    scores = scores_node(graph_module.graph)
    ending = operator_name(scores).strip("_")
    if ending not in ("softmax", "sigmoid"):
        return graph_module
    if ending != activation:
        raise UnsupportedMethod(f"the network ends in a {ending}, but its activation is said to be {activation}")
    scores.replace_all_uses_with(scores.all_input_nodes[0])
    return flat(graph_module)


def has_foreign_operators(graph: fx.Graph) -> bool:
    """Whether it has operators that are not torch's own, and may be written in Python."""
    overloads = [node.target for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return any(overload.namespace not in ("aten", "torchvision") for overload in overloads)


def release(graph: fx.Graph) -> None:
    """Empty what tracing has left in and about the environment of its symbolic sizes, so that it can go with the graph.

    Its fake tensors refer to their sizes and so to the environment from C++, where the garbage collector can't see
    that they refer to each other only; and the caches of its methods belong to the class and hold every environment.
    """
    (first, *_) = graph.find_nodes(op="placeholder")
    shapes = first.meta["val"].fake_mode.shape_env
    shapes.tracked_fakes = []
    shapes.fake_tensor_cache.clear()
    for method in vars(ShapeEnv).values():
        if hasattr(method, "cache_clear"):
            method.cache_clear()


def forget_sources() -> None:
    """Drop the source text of every graph compiled so far, which torch.fx keeps for tracebacks long after the graph."""
    sources = fx.graph_module._loader.eval_cache
    for name in sources:
        linecache.cache.pop(name, None)
    sources.clear()


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
