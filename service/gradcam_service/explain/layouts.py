"""Layouts of the values of a graph."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from gradcam_service.explain.graph import operator_name, shape_of
from gradcam_service.explain.layout import Layout

_KEEPS_LAYOUT = ("cat", "slice", "pad", "constant_pad_nd", "getitem", "_native_batch_norm_legit_no_training")
_CONVOLVES = (
    "conv2d", "convolution", "conv_transpose2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "pixel_shuffle",
)  # fmt: skip
_ACTS_ON_LAST = ("linear", "layer_norm", "native_layer_norm")
_RESHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose")
_MOST_PREFIX = 8
"""Class and register tokens that stand before the patches' tokens, at most."""


def convolved_grid(node: fx.Node) -> tuple[int, int] | None:
    """The (h, w) of what a convolution or a pooling computes; None of other nodes, and where a side is of one cell."""
    shape = shape_of(node) or ()
    known = operator_name(node) in _CONVOLVES and len(shape) == 3 and min(shape[1:]) > 1
    return (shape[1], shape[2]) if known else None


def layout_of(
    node: fx.Node,
    last: bool | None,
    grid: tuple[int, int] | None,
    aspect: float,
    convolved: Collection[tuple[int, int]],
) -> Layout | None:
    """The layout of a node's value, or None where it isn't one of feature maps.

    Args:
        node: its value is (N, a, b, c) or (N, a, b).
        last: whether its channels come last, from `channels_last`.
        grid: (h, w) of the feature maps before it.
        aspect: height / width of the image; a grid has about the same.
        convolved: (h, w) that have another, as convolutions make that stride along one side alone to read text.
    """
    shape = shape_of(node) or ()
    if len(shape) == 3 and last is not None:
        h, w = shape[:2] if last else shape[1:]
        alike = h * w > 1 and 0.7 < h / w / aspect < 1.4
        return Layout(3 if last else 1, (h, w)) if alike or (h, w) in convolved else None
    if len(shape) == 2 and grid is not None and operator_name(node) not in _RESHAPES:
        prefix = shape[0] - grid[0] * grid[1]
        halved = (grid[0] + 1) // 2, (grid[1] + 1) // 2
        if shape[0] == halved[0] * halved[1] > 1:
            return Layout(2, halved)
        return Layout(2, grid, prefix) if 0 <= prefix <= _MOST_PREFIX else None
    return None


def channels_last(graph: fx.Graph) -> dict[fx.Node, bool | None]:
    """For every node, whether its 4-D value is (N, h, w, K), not (N, K, h, w); None where its origin doesn't tell."""
    last: dict[fx.Node, bool | None] = {}
    for node in graph.nodes:
        name = operator_name(node)
        sources = [last[source] for source in node.all_input_nodes if last[source] is not None]
        if node.op == "placeholder" or name in _CONVOLVES:
            last[node] = False
        elif name == "permute" and sources and len(node.args[1]) == 4:
            last[node] = list(node.args[1]).index(3 if sources[0] else 1) == 3
        elif sources and (name in (*_KEEPS_LAYOUT, *_ACTS_ON_LAST) or _is_elementwise(node)):
            last[node] = sources[0]
        elif any(operator_name(user) in _CONVOLVES for user in node.users):
            last[node] = False
        else:
            last[node] = True if name in _ACTS_ON_LAST else None
    for node in reversed(graph.nodes):  # what is added to another lies as that does
        if last[node] is None and len(shape_of(node) or ()) == 3:
            last[node] = next((last[user] for user in node.users if shape_of(user) == shape_of(node)), None)
    return last


def _is_elementwise(node: fx.Node) -> bool:
    """Whether the value has the shape of something that it is computed from, element by element as far as we know."""
    return operator_name(node) not in _RESHAPES and any(
        shape_of(source) == shape_of(node) for source in node.all_input_nodes
    )
