"""Networks that score the word after a text's last one, made to score those after each of its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gradcam_service.explain.divide import divide
from gradcam_service.explain.graph import flat

aten = torch.ops.aten


def after_each_token(network: fx.GraphModule, pad: int) -> fx.GraphModule:
    """The network that scores the words after each token, given those up to it.

    What depends on the image alone is computed once; all else for each beginning of the text, in a row of its own.

    Args:
        network: maps images (N, C, H, W) and tokens (N, T), filled up with padding at their right, to scores (N, words)
            of what follows the last token that is none.
        pad: the token that is padding.

    Returns:
        A graph to scores (N, T, words), which shares the network's parameters.
    """
    image, tokens = network.graph.find_nodes(op="placeholder")
    count, length = tokens.meta["val"].shape
    halves = divide(network, tokens)
    name = "later"
    while hasattr(network, name):  # what the network itself calls so stays
        name += "_"
    network.register_buffer(name, torch.ones(length, length, dtype=torch.bool).triu(1))
    graph = fx.Graph()
    given = [graph.node_copy(node) for node in (image, tokens)]
    _, *values = _inlined(graph, halves.backbone, given) if halves.axes else given[1:]
    repeated = [
        value if axis is None else _called(graph, aten.repeat_interleave.self_int, value, length, axis)
        for value, axis in zip(values, halves.axes, strict=True)
    ]
    later = graph.get_attr(name)
    later.meta["val"] = torch.empty(length, length, dtype=torch.bool, device="meta")
    whole = _called(graph, aten.unsqueeze.default, given[1], 1)
    whole = _called(graph, aten.expand.default, whole, [-1, length, -1])
    begun = _called(graph, aten.masked_fill.Scalar, whole, later, pad)
    begun = _called(graph, aten.flatten.using_ints, begun, 0, 1)
    known = set(graph.nodes)
    scores = _inlined(graph, halves.head, [begun, *repeated])
    for node in set(graph.nodes) - known:
        node.meta["val"] = _times(node.meta.get("val"), int(count), length)
    graph.output(_called(graph, aten.unflatten.int, scores, 0, [-1, length]))
    made = fx.GraphModule(network, graph)
    made.meta.update(network.meta)
    return flat(made)


def _called(graph: fx.Graph, function: Callable[..., Tensor], *arguments: Any) -> fx.Node:  # noqa: ANN401  nodes, numbers
    node = graph.call_function(function, arguments)
    node.meta["val"] = function(*fx.node.map_arg(arguments, lambda one: one.meta["val"]))
    return node


def _inlined(graph: fx.Graph, part: fx.GraphModule, given: list[fx.Node]) -> Any:  # noqa: ANN401  a node, or some
    """What a part of the network makes of some values, computed in ``graph``."""
    copies = dict(zip(part.graph.find_nodes(op="placeholder"), given, strict=True))
    return graph.graph_copy(part.graph, copies)


def _times(value: object, count: int, times: int) -> object:
    """An example of a value that has a row for each beginning, of one that had a row for each image."""
    if isinstance(value, Tensor):
        shape = [length * times if length == count else length for length in value.shape]
        return torch.empty(shape, dtype=value.dtype, device="meta")
    if isinstance(value, list | tuple):
        return type(value)(_times(one, count, times) for one in value)
    return value * times if isinstance(value, int) and value == count else value
