"""One layer of several: the feature maps of branches that end apart, beside each other.

Where no layer is crossed by every path (ensembles, two streams, test-time augmentation inside of a network), the last
feature maps A, B … of the branches are concatenated along their channels, as they lie in the picture, and taken apart
again: the network computes the same, and every path crosses the concatenation. Grad-CAM there is
ReLU(Σ α A + Σ β B + …), the sum of the branches' maps before the ReLU, since it is a sum over channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from gradcam_service.explain.graph import ancestors, flat, scores_node
from gradcam_service.explain.layers import SEAM, Layer
from gradcam_service.explain.layout import Layout

aten = torch.ops.aten


def join(network: fx.GraphModule, layers: Sequence[Layer]) -> tuple[fx.GraphModule, Layer] | None:
    """The network with one layer in the place of several; None where they can't be one.

    Args:
        network: a graph as `gradcam_service.explain.tracing.trace` returns it; it is left as it is.
        layers: at least two.

    Returns:
        The same network, sharing its parameters, and the joint layer, whose name is theirs, with commas between. None
        where their grids differ, or one is computed from another.
    """
    ends = [layer.node for layer in layers]
    before: set[fx.Node] = set().union(*(ancestors(end) for end in ends))
    above: set[fx.Node] = set().union(*(ancestors(source) for end in ends for source in end.all_input_nodes))
    if len({layer.layout.seen for layer in layers}) > 1 or above.intersection(ends):
        return None
    if any(layer.layout.prefix for layer in layers):
        return None  # class tokens pass by
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    first = [node for node in network.graph.nodes if node in before or node.op == "placeholder"]
    for node in first:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    emit = _emitter(graph)
    joint = emit(aten.cat.default, [_on_grid(emit, copies[layer.node], layer.layout) for layer in layers], 1)
    starts = [0, *accumulate(layer.channels for layer in layers)]
    for layer, start in zip(layers, starts, strict=False):
        own = emit(aten.slice.Tensor, joint, 1, start, start + layer.channels)
        copies[layer.node] = _off_grid(emit, own, layer.layout)
    for node in network.graph.nodes:
        if node not in copies and node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[scores_node(network.graph)])
    made = flat(fx.GraphModule(network, graph))
    made.meta.update(network.meta)
    name = ",".join(layer.name for layer in layers)
    return made, Layer(name, starts[-1], Layout(1, layers[0].layout.seen), joint)


def _emitter(graph: fx.Graph) -> Callable[..., fx.Node]:
    """What appends an operator to a graph, with an example of its value."""

    def emit(function: Callable[..., Any], *arguments: Any) -> fx.Node:  # noqa: ANN401  nodes, lists of them and numbers
        node = graph.call_function(function, arguments)
        values = fx.node.map_arg(arguments, lambda argument: argument.meta["val"])
        node.meta = {"val": function(*values), SEAM: True}
        return node

    return emit


def _on_grid(emit: Callable[..., fx.Node], value: fx.Node, layout: Layout) -> fx.Node:
    """`Layout.to_grid` as nodes."""
    if layout.channels == 3:
        value = emit(aten.permute.default, value, [0, 3, 1, 2])
    elif layout.channels == 2:
        value = emit(aten.unflatten.int, emit(aten.transpose.int, value, 1, 2), 2, list(layout.grid))
    if layout.frame.mirrored:
        value = emit(aten.flip.default, value, [2 + axis for axis in sorted(layout.frame.mirrored)])
    return emit(aten.transpose.int, value, 2, 3) if layout.frame.transposed else value


def _off_grid(emit: Callable[..., fx.Node], value: fx.Node, layout: Layout) -> fx.Node:
    """The inverse of `_on_grid`."""
    if layout.frame.transposed:
        value = emit(aten.transpose.int, value, 2, 3)
    if layout.frame.mirrored:
        value = emit(aten.flip.default, value, [2 + axis for axis in sorted(layout.frame.mirrored)])
    if layout.channels == 3:
        return emit(aten.permute.default, value, [0, 2, 3, 1])
    return emit(aten.transpose.int, emit(aten.flatten.using_ints, value, 2), 1, 2) if layout.channels == 2 else value
