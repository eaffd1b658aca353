"""Flat graphs of side-effect-free operators, and questions about their nodes."""

from __future__ import annotations

import linecache
import threading
from collections.abc import Iterable, Mapping
from math import prod
from typing import TypeGuard

import torch
from torch import SymInt, Tensor, fx, nn

TRACING = threading.Lock()
"""Held while torch traces. It does so for the whole process (``torch.compiler.is_exporting``, annotations of nodes): an
operator written in Python that another thread calls then takes part in it, and fails."""


VALUES = "values"
"""In a graph's ``meta``: how many of its scores, the last, are values beside those of classes."""

_RESHAPES = (
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "select", "slice", "clone", "alias",
    "contiguous", "lift_fresh_copy",
)  # fmt: skip


_SYMBOLS = (1_000_003, 100_003, 100_019, 100_043, 100_049, 100_057)
"""Primes, that of the rows first: no network has a dimension of so many elements, or of a multiple of it."""


def with_plain_sizes(graph: fx.Graph, known: Mapping[object, int] | None = None) -> None:
    """Have the examples of a graph's values be of plain sizes: numbers that `is_symbolic`, in the place of symbols.

    Symbols would keep the environment alive that the graph was traced in, and have it imported where the graph is only
    read.

    Args:
        graph: whose nodes' examples are replaced.
        known: the symbols that are the same size from call to call, and that size.
    """
    numbers = dict(known or {})
    same = len(numbers)

    def number(length: int | SymInt) -> int:
        if not isinstance(length, SymInt):
            return length
        expression = length.node.expr
        for symbol in sorted(expression.free_symbols, key=str):
            numbers.setdefault(symbol, _SYMBOLS[min(len(numbers) - same, len(_SYMBOLS) - 1)])
        return int(expression.xreplace(numbers))

    def plain(value: object) -> object:
        if isinstance(value, list | tuple):
            return [*map(plain, value)] if isinstance(value, list) else tuple(map(plain, value))
        if isinstance(value, Tensor):
            return torch.empty([number(length) for length in value.shape], dtype=value.dtype, device="meta")
        return number(value) if isinstance(value, SymInt) else value

    for node in graph.nodes:
        if "val" in node.meta:
            node.meta = {"nn_module_stack": node.meta.get("nn_module_stack"), "val": plain(node.meta["val"])}


def is_symbolic(length: int) -> bool:
    """Whether a size is another from call to call, such as the number of rows, or a multiple of that."""
    return length > 0 and any(length % symbol == 0 for symbol in _SYMBOLS)


def flat(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Declare a graph to be what `trace` returns: it is used as it is, its dead code apart."""
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    graph_module.meta["flat"] = True
    return graph_module.requires_grad_(False)


def is_flat(module: nn.Module) -> TypeGuard[fx.GraphModule]:
    """Whether a module has been declared to be such a graph."""
    return isinstance(module, fx.GraphModule) and bool(module.meta.get("flat"))


def has_foreign_operators(graph: fx.Graph) -> bool:
    """Whether it has operators that are not torch's own, and may be written in Python."""
    overloads = [node.target for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return any(overload.namespace not in ("aten", "torchvision") for overload in overloads)


def release(graph: fx.Graph) -> None:
    """Empty what tracing has left in and about the environment of its symbolic sizes, so that it can go with the graph.

    Its fake tensors refer to their sizes and so to the environment from C++, where the garbage collector can't see
    that they refer to each other only; and the caches of its methods belong to the class and hold every environment.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # which imports SymPy

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


def call_inputs(graph: fx.Graph, names: Iterable[str]) -> None:
    """Name a graph's inputs, in their order."""
    for node, name in zip(graph.find_nodes(op="placeholder"), names, strict=True):
        node._rename(name)
        node.target = node.name


def image_node(graph: fx.Graph) -> fx.Node:
    """The graph's first input, the images."""
    node: fx.Node
    node, *_ = graph.find_nodes(op="placeholder")
    return node


def scores_node(graph: fx.Graph) -> fx.Node:
    """The node whose value the graph returns: (N, classes)."""
    node: fx.Node
    (output,) = graph.find_nodes(op="output")
    (node,) = output.all_input_nodes
    return node


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's value without its batch dimension, or None where the value is no tensor of a known one."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or any(map(is_symbolic, value.shape[1:])):
        return None
    return tuple(value.shape[1:])


def operator_name(node: fx.Node) -> str:
    """``relu`` for ``aten.relu.default``; the node's own name where it is no operator."""
    name: str = getattr(node.target, "__name__", node.name)
    return name.split(".")[0]


def is_reshaped(node: fx.Node) -> bool:
    """Whether the node's value is that of the tensor that it takes, all of its numbers, in another shape at most."""
    if operator_name(node) not in _RESHAPES or len(node.all_input_nodes) == 0:
        return False
    shape, before = shape_of(node), shape_of(node.all_input_nodes[0])
    return shape is not None and before is not None and prod(shape) == prod(before)


def is_size(node: fx.Node) -> bool:
    """Whether the node's value is a size (an int), not a tensor or a tuple of tensors."""
    return isinstance(node.meta.get("val"), int)


def descendants(origin: fx.Node) -> set[fx.Node]:
    """``origin`` and all tensors that are computed from its values; sizes, and what depends on them alone, are not."""
    found = {origin}
    for node in origin.graph.nodes:
        if node.op != "output" and not is_size(node) and not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def ancestors(result: fx.Node) -> set[fx.Node]:
    """``result`` and all values that it is computed from."""
    found = {result}
    waiting = [result]
    while waiting:
        new = set(waiting.pop().all_input_nodes) - found
        found |= new
        waiting += new
    return found
