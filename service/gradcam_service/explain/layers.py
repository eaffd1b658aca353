"""Which layers a network can be cut at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count

from torch import fx

from gradcam_service.explain.graph import image_node, is_size, operator_name, shape_of
from gradcam_service.explain.layout import Layout, channels_last, layout_of

_CONVOLUTIONS = ("conv2d", "convolution", "conv_transpose2d")
_POOLING = ("adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "mean", "amax")

INPUT = "input"
"""The name of the one layer of a network without feature maps: the image itself."""
_ROUNDING = ("round", "floor", "ceil", "trunc", "sign", "argmax")


@dataclass(frozen=True)
class Layer:
    """A place to cut: every path from the image to the scores passes through this node's value.

    Attributes:
        name: the outermost module whose output the value is (``layer4``), or the operator inside its module where the
            value is no module's output (``layer4.0.add``). Unique within a network.
        channels: K.
        layout: how the feature maps lie in the value.
        node: the node in the network's graph.
    """

    name: str
    channels: int
    layout: Layout
    node: fx.Node

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, h, w) of the feature maps."""
        return (self.channels, *self.layout.grid)


def find_layers(graph: fx.Graph) -> tuple[Layer, ...]:
    """All layers with a spatial extent (h·w > 1), from the image to the scores."""
    image = shape_of(image_node(graph))
    assert image is not None
    names, last = names_of(graph), channels_last(graph)
    layers: list[Layer] = []
    for node in dominators(graph):
        grid = layers[-1].layout.grid if layers else None
        layout = layout_of(node, last[node], grid, aspect=image[1] / image[2])
        if layout is not None and node.op != "placeholder" and _is_of_one_batch(node, graph):
            layers.append(Layer(names[node], node.meta["val"].shape[layout.channels], layout, node))
    return tuple(layers)


def input_layer(graph: fx.Graph) -> Layer:
    """The image itself as a layer: where a network without feature maps is cut."""
    image = image_node(graph)
    shape = shape_of(image)
    assert shape is not None
    return Layer(INPUT, shape[0], Layout(1, (shape[1], shape[2])), image)


def _is_of_one_batch(node: fx.Node, graph: fx.Graph) -> bool:
    """Whether the value has a row for each image; windows of an image count as images of their own."""
    return bool(node.meta["val"].shape[0] == image_node(graph).meta["val"].shape[0])


def dominators(graph: fx.Graph) -> list[fx.Node]:
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


def non_differentiable(graph: fx.Graph) -> list[fx.Node]:
    """The nodes on the `dominators` that no gradient passes: those that round, and those that are no torch operator."""
    return [node for node in dominators(graph) if node.op == "call_module" or operator_name(node) in _ROUNDING]


def before_final_pooling(layers: tuple[Layer, ...], graph: fx.Graph) -> list[Layer]:
    """The layers that precede the final pooling, or all of them where nothing is pooled.

    A run of pooling operators counts as one, so that VGG's last is the ReLU before its last max-pool. A pooling that
    convolutions follow is not the final one.
    """
    order = dominators(graph)
    nodes = list(graph.nodes)
    convolutions = [node for node in nodes if _is_convolution(node)]
    final = set(nodes[nodes.index(convolutions[-1]) :]) if convolutions else set(nodes)
    pools = [i for i, node in enumerate(order) if _is_pooling(node) and node in final]
    if not pools:
        return list(layers)
    first = pools[-1]
    while _is_pooling(order[first - 1]):
        first -= 1
    before = set(order[:first])
    return [layer for layer in layers if layer.node in before] or list(layers)


def _is_pooling(node: fx.Node) -> bool:
    return operator_name(node) in _POOLING


def _is_convolution(node: fx.Node) -> bool:
    """Whether the node convolves a grid; a 1×1 convolution of pooled features is a linear layer."""
    shape = shape_of(node) or ()
    return operator_name(node) in _CONVOLUTIONS and len(shape) == 3 and shape[1] * shape[2] > 1


def names_of(graph: fx.Graph) -> dict[fx.Node, str]:
    """A unique name for every node (see `Layer.name`)."""
    last_of: dict[str, fx.Node] = {}
    for node in graph.nodes:
        last_of.update(dict.fromkeys(_module_path(node), node))
    names: dict[fx.Node, str] = {}
    taken = set(last_of)
    for node in graph.nodes:
        path = _module_path(node)
        outermost = next((module for module in path if last_of[module] is node), None)
        operator = ".".join((*path[-1:], operator_name(node)))
        numbered = chain([operator], (f"{operator}_{i}" for i in count(1)))
        names[node] = outermost or next(name for name in numbered if name not in taken)
        taken.add(names[node])
    return names


def _module_path(node: fx.Node) -> list[str]:
    """Names of the modules around a node, outermost first, without the root."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
