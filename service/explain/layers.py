"""Which layers a network can be cut at, and which of them Grad-CAM means by "the last convolutional layer"."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import fx

from service.errors import UnsupportedMethod
from service.explain.graph import image_node, is_size, operator_name, shape_of

_POOLING = ("adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "mean", "amax")


@dataclass(frozen=True)
class Layer:
    """A place to cut: every path from the image to the scores passes through this node's value.

    Attributes:
        name: the outermost module whose output the value is (``layer4``), or the operator inside its module where the
            value is no module's output (``layer4.0.add``). Unique within a network.
        shape: (K, h, w) of the feature maps.
        node: the node in the network's graph.
    """

    name: str
    shape: tuple[int, int, int]
    node: fx.Node


def find_layers(graph: fx.Graph) -> tuple[Layer, ...]:
    """All layers with a spatial extent (h·w > 1), from the image to the scores."""
    names = _names(graph)
    return tuple(
        Layer(names[node], (shape[0], shape[1], shape[2]), node)
        for node in spine(graph)
        if (shape := shape_of(node)) and len(shape) == 3 and shape[1] * shape[2] > 1 and node.op != "placeholder"
    )


def spine(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that every path from the image to the scores passes through, in order.

    A node is one of them exactly if, once it is computed, it is the only value that depends on the image and is still
    needed. Sizes are not counted: the head computes them again from the feature maps.
    """
    nodes = list(graph.nodes)
    position = {node: i for i, node in enumerate(nodes)}
    needed_until = {node: max((position[user] for user in node.users), default=-1) for node in nodes}
    found: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for i, node in enumerate(nodes):
        from_image = node is image_node(graph) or any(source in alive for source in node.all_input_nodes)
        if from_image and node.op != "output" and not is_size(node):
            alive.add(node)
        alive = {value for value in alive if needed_until[value] > i}
        if alive == {node}:
            found.append(node)
    return found


def last_convolutional(layers: tuple[Layer, ...], graph: fx.Graph) -> Layer:
    """The paper's "last convolutional layer": the last one that precedes the final pooling.

    A run of pooling operators counts as one, so that VGG gives the ReLU before its last max-pool, and the value is the
    one after the layer's own normalisation and activation. Without any pooling it is the last layer.

    Raises:
        UnsupportedMethod: the network has no layer with a spatial extent.
    """
    if not layers:
        raise UnsupportedMethod("this network has no feature maps with a spatial extent, so there is nothing to map")
    order = spine(graph)
    pools = [i for i, node in enumerate(order) if _is_pooling(node)]
    if not pools:
        return layers[-1]
    first = pools[-1]
    while _is_pooling(order[first - 1]):
        first -= 1
    before = set(order[:first])
    return [layer for layer in layers if layer.node in before][-1]


def _is_pooling(node: fx.Node) -> bool:
    return operator_name(node) in _POOLING


def _names(graph: fx.Graph) -> dict[fx.Node, str]:
    """A unique name for every node (see `Layer.name`)."""
    last_of: dict[str, fx.Node] = {}
    for node in graph.nodes:
        last_of.update(dict.fromkeys(_module_path(node), node))
    names: dict[fx.Node, str] = {}
    seen: Counter[str] = Counter()
    for node in graph.nodes:
        path = _module_path(node)
        outermost = next((module for module in path if last_of[module] is node), None)
        name = outermost or ".".join((*path[-1:], operator_name(node)))
        names[node] = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
    return names


def _module_path(node: fx.Node) -> list[str]:
    """Names of the modules around a node, outermost first, without the root."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
