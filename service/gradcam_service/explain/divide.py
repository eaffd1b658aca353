"""Division of a graph at any value: into what computes it and the other live ones, and the rest that needs them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import descendants, is_size, is_symbolic, scores_node

Values = Tensor | tuple[Tensor | int, ...]
"""What a backbone returns: A alone, or A and the other live values."""


@dataclass(frozen=True)
class Halves:
    """A graph in two parts.

    Attributes:
        backbone: maps the graph's inputs to A, or to (A, *rest) where there is a rest.
        head: maps (A, *rest, *inputs but the image) to the graph's result.
        axes: see `gradcam_service.explain.frontier.Frontier`.
    """

    backbone: fx.GraphModule
    head: fx.GraphModule
    axes: tuple[int | None, ...]


def divide(network: fx.GraphModule, node: fx.Node, result: fx.Node | None = None) -> Halves:
    """Divide a graph at ``node``; both parts share its parameters.

    The head is what descends from ``node``, so that it is as small as can be: a sibling branch is computed in the
    backbone even where the program computes it later. What depends on other inputs than the image alone is computed in
    the head, so that an image's backbone runs once for all that is asked about it.

    Args:
        network: a graph as `gradcam_service.explain.tracing.trace` returns it.
        node: the explained value, a row for each image; or an input beside it, and the head is what descends from that.
        result: what the head computes; the scores unless said otherwise.
    """
    graph = network.graph
    image, *others = graph.find_nodes(op="placeholder")
    crossing = _Crossing(image, others, node)
    computed, handed_over = crossing.back_from(result or scores_node(graph))
    rest = [value for value in graph.nodes if value in handed_over]
    before = crossing.ancestors([node, *rest])
    backbone = crossing.part(network, [image, *others], [node, *rest], before)
    beside = [other for other in others if other is not node]
    head = crossing.part(network, [node, *rest, *beside], [result or scores_node(graph)], computed)
    return Halves(backbone, head, tuple(crossing.axis(value) for value in rest))


class _Crossing:
    """Decides what crosses the cut of a graph at ``node``, and copies the parts on either side of it."""

    def __init__(self, image: fx.Node, others: list[fx.Node], node: fx.Node) -> None:
        self._node = node
        self._count = image.meta["val"].shape[0]
        self._after = descendants(node)
        self._from_image = descendants(image)
        self._lengths = [
            (length, other, axis)
            for other in others
            for axis, length in enumerate(other.meta["val"].shape)
            if is_symbolic(length) and length != self._count
        ]

    def axis(self, value: fx.Node) -> int | None:
        """The dimension of a value that counts images, None where it has none."""
        found = value.meta["val"]
        shape = found.shape if isinstance(found, Tensor) else ()
        return next((axis for axis, length in enumerate(shape) if length == self._count), None)

    def back_from(self, result: fx.Node) -> tuple[set[fx.Node], set[fx.Node]]:
        """All values that ``result`` is computed from after the cut, and those that are handed over for it."""
        computed: set[fx.Node] = set()
        handed_over: set[fx.Node] = set()
        waiting = [result]
        while waiting:
            value = waiting.pop()
            if value is self._node or value in computed or value in handed_over:
                continue
            if self._is_handed_over(value):
                handed_over.add(value)
            elif value.op != "placeholder":
                computed.add(value)
                waiting += [] if self._source_of_size(value) else value.all_input_nodes
        return computed, handed_over

    def ancestors(self, values: list[fx.Node]) -> set[fx.Node]:
        """All values that ``values`` are computed from, themselves included."""
        found: set[fx.Node] = set()
        waiting = [*values]
        while waiting:
            value = waiting.pop()
            if value not in found:
                found.add(value)
                waiting += [] if self._source_of_size(value) else value.all_input_nodes
        return found

    def part(
        self, network: fx.GraphModule, sources: list[fx.Node], results: list[fx.Node], nodes: set[fx.Node]
    ) -> fx.GraphModule:
        """A module of some nodes; ``sources`` begin with a value that has a row for each image."""
        graph = fx.Graph()
        copies = {source: graph.placeholder(source.name) for source in sources}
        for node in network.graph.nodes:
            if node not in nodes or node in copies:
                continue
            if found := self._source_of_size(node):
                tensor, axis = found[0] or sources[0], found[1]
                copies[node] = graph.call_function(torch.ops.aten.sym_size.int, (copies[tensor], axis))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        for node, copy in copies.items():
            copy.meta = node.meta
        graph.output(copies[results[0]] if len(results) == 1 else tuple(copies[result] for result in results))
        return fx.GraphModule(network, graph)

    def _source_of_size(self, value: fx.Node) -> tuple[fx.Node | None, int] | None:
        """The input and its dimension that tell a size on both sides; no input for N, which any value can tell."""
        if not is_size(value):
            return None
        length = value.meta["val"]
        if length == self._count:
            return None, 0
        return next(((other, axis) for known, other, axis in self._lengths if length == known), None)

    def _is_handed_over(self, value: fx.Node) -> bool:
        """Whether the head gets the value; one without a row for each image is computed again from those that have."""
        if self._source_of_size(value):
            return False
        sources = [value, *value.all_input_nodes] if is_size(value) else [value]
        if self._after.intersection(sources) or not self._from_image.intersection(sources):
            return False
        return is_size(value) or self.axis(value) is not None
