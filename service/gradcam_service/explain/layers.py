"""Layers that a network can be cut at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, count

from torch import fx

from gradcam_service.explain.graph import ancestors, image_node, is_size, operator_name, shape_of
from gradcam_service.explain.layout import INPUT, PICTURES, Layout
from gradcam_service.explain.layouts import channels_last, convolved_grid, layout_of
from gradcam_service.explain.orientation import frames_of

CONVOLUTIONS = ("conv2d", "convolution", "conv_transpose2d")

SEAM = "seam"
"""Key of a node's ``meta`` that says that it is no layer of the network, but joins some or takes them apart."""
_MOVES = (
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "select", "slice", "pad",
    "constant_pad_nd", "roll", "flip", "expand", "clone", "alias", "contiguous",
)  # fmt: skip
"""Operators that take numbers elsewhere and compute none."""
_ROUNDING = ("round", "floor", "ceil", "trunc", "sign", "argmax")


@dataclass(frozen=True)
class Layer:
    """A place to cut: a value with a spatial extent, one for each image.

    Attributes:
        name: a module whose output the value is (``layer4``, ``layer4.1.conv2``), the outermost unless asked for by
            another, or the operator inside its module where the value is no module's output (``layer4.0.add``). Of
            several calls of one module the last has its name.
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
        return (self.channels, *self.layout.seen)

    @property
    def is_listed(self) -> bool:
        """Whether its name tells people anything: not that of an operator that moves another layer's numbers."""
        called = _called(self.node)
        return called not in _MOVES or self.name.rpartition(".")[2].rstrip("_0123456789") != called


@dataclass(frozen=True)
class Layers:
    """All layers of a network.

    Attributes:
        of: by value, whatever has a spatial extent (h·w > 1).
        crossed: those of them that every path from the image to the scores crosses, in order.
        aliases: the same by the names of modules, of which several may return one value.
    """

    of: dict[fx.Node, Layer]
    crossed: tuple[Layer, ...]
    aliases: dict[str, Layer]

    @property
    def by_name(self) -> dict[str, Layer]:
        """All layers by all of their names."""
        return self.aliases | {layer.name: layer for layer in self.of.values()}


def find_layers(graph: fx.Graph) -> Layers:
    """All layers of a graph."""
    rows, _, height, width = image_node(graph).meta["val"].shape
    names, last, always = names_of(graph), channels_last(graph), set(dominators(graph))
    frames = frames_of(graph, last)
    found: dict[fx.Node, Layer] = {}
    crossed: list[Layer] = []
    convolved: set[tuple[int, int]] = set()
    for node in graph.nodes:
        if node.op != "call_function" or is_size(node) or SEAM in node.meta:
            continue
        grid = crossed[-1].layout.grid if crossed else None
        convolved |= {made for made in [convolved_grid(node)] if made}
        layout = layout_of(node, last[node], grid, height / width, convolved)
        if layout is not None and node.meta["val"].shape[0] == rows:
            layout = replace(layout, frame=frames.get(node, PICTURES))
            found[node] = Layer(names[node], node.meta["val"].shape[layout.channels], layout, node)
            crossed += [found[node]] if node in always else []
    aliases = {path: replace(found[node], name=path) for path, node in _outputs(graph).items() if node in found}
    return Layers(found, tuple(crossed), aliases)


def input_layer(graph: fx.Graph) -> Layer:
    """The image itself as a layer: where a network without feature maps is cut."""
    image = image_node(graph)
    shape = shape_of(image)
    assert shape is not None
    return Layer(INPUT, shape[0], Layout(1, (shape[1], shape[2])), image)


def dominators(graph: fx.Graph, end: fx.Node | None = None) -> list[fx.Node]:
    """The nodes that every path from the image to ``end``, or to the scores, passes through, in order.

    A node is one of them exactly if, once it is computed, it is the only value that depends on the image and is still
    needed. Sizes are not counted: the head computes them again from the feature maps. Nor are other inputs, and what is
    computed from them alone.
    """
    before = set() if end is None else ancestors(end)
    nodes = list(graph.nodes) if end is None else [node for node in graph.nodes if node in before]
    position = {node: i for i, node in enumerate(nodes)}
    needed_until = {node: max((position.get(user, -1) for user in node.users), default=-1) for node in nodes}
    found: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for i, node in enumerate(nodes):
        from_image = node is image_node(graph) or any(source in alive for source in node.all_input_nodes)
        if from_image and node.op != "output" and not is_size(node):
            alive.add(node)
        alive = {value for value in alive if needed_until[value] > i or value is end}
        if alive == {node}:
            found.append(node)
    return found


def non_differentiable(graph: fx.Graph) -> list[fx.Node]:
    """The nodes on the `dominators` that no gradient passes: those that round, and those that are no torch operator."""
    return [node for node in dominators(graph) if node.op == "call_module" or operator_name(node) in _ROUNDING]


def names_of(graph: fx.Graph) -> dict[fx.Node, str]:
    """A unique name for every node (see `Layer.name`) but those of several answers, which have theirs."""
    last_of = _outputs(graph)
    names: dict[fx.Node, str] = {}
    taken = set(last_of)
    for node in graph.nodes:
        if isinstance(node.meta.get("val"), list | tuple):
            continue
        path = _module_path(node)
        outermost = next((module for module in path if last_of[module] is node), None)
        operator = ".".join((*path[-1:], _called(node)))
        numbered = chain([operator], (f"{operator}_{i}" for i in count(1)))
        names[node] = outermost or next(name for name in numbered if name not in taken)
        taken.add(names[node])
    return names


def _called(node: fx.Node) -> str:
    """What people call the operator that a value comes from: that of all its answers where it is one of several."""
    name = operator_name(node.all_input_nodes[0] if operator_name(node) == "getitem" else node)
    return "batch_norm" if "batch_norm" in name else name.removeprefix("_unsafe_").removeprefix("_")


def _outputs(graph: fx.Graph) -> dict[str, fx.Node]:
    """For every module, the value that it computes last."""
    last_of: dict[str, fx.Node] = {}
    for node in graph.nodes:
        last_of.update(dict.fromkeys(_module_path(node), node))
    return last_of


def _module_path(node: fx.Node) -> list[str]:
    """Names of the modules around a node, outermost first, without the root."""
    return [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
