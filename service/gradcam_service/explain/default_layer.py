"""Default layer, explained unless a request names one: the paper's "last convolutional layer", found from the graph."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, fx

from gradcam_service.explain.cut import gradient
from gradcam_service.explain.divide import divide
from gradcam_service.explain.graph import (
    ancestors,
    descendants,
    image_node,
    is_size,
    operator_name,
    scores_node,
    shape_of,
)
from gradcam_service.explain.layers import CONVOLUTIONS, Layer, Layers, dominators

_POOLING = ("adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d", "mean", "amax")
_WEIGHTED = (*CONVOLUTIONS, "linear", "addmm", "matmul", "mm", "bmm", "scaled_dot_product_attention", "gru", "lstm")


def default_layers(network: fx.GraphModule, layers: Layers) -> tuple[Layer, ...]:
    """The last layers with a spatial extent; none of a network without any.

    Of a network that classifies, the last layer that every path crosses before the final pooling. Where that is not the
    end of the convolutions (branches that end apart, detectors with several levels) or the scores are a grid themselves
    (segmentation), the ends of the branches, in order; see `_ends`.
    """
    last = _before_final_pooling(network, layers)
    answers = scores_node(network.graph) not in layers.of
    if last is not None and answers and not any(_is_convolution(node) for node in descendants(last.node) - {last.node}):
        return (last,)
    return _ends(network.graph, layers)


def _before_final_pooling(network: fx.GraphModule, layers: Layers) -> Layer | None:
    """The last crossed layer before the final pooling, or of all where nothing is pooled.

    A run of pooling operators counts as one, so that VGG's last is the ReLU before its last max-pool. A pooling that
    convolutions follow is not the final one. Where a class token gathers the evidence, the patches' tokens have no part
    in the scores after the last attention; the layer is the last one at which they have.
    """
    order = dominators(network.graph)
    nodes = list(network.graph.nodes)
    convolutions = [node for node in nodes if _is_convolution(node)]
    final = set(nodes[nodes.index(convolutions[-1]) :]) if convolutions else set(nodes)
    pools = [i for i, node in enumerate(order) if _is_pooling(node) and node in final]
    first = pools[-1] if pools else len(order)
    while pools and _is_pooling(order[first - 1]):
        first -= 1
    before = set(order[:first])
    candidates = [layer for layer in layers.crossed if layer.node in before] or layers.crossed
    found = (layer for layer in reversed(candidates) if layer.layout.prefix == 0 or _reaches_grid(network, layer))
    return next(found, None)


def _reaches_grid(network: fx.GraphModule, layer: Layer) -> bool:
    """Whether what is scored depends on the grid of the layer's feature maps, not on its prefix tokens alone.

    Asked of the value before the scores, since the last linear layer of an untrained network may be zero.
    """
    embedding = divide(network, layer.node, dominators(network.graph)[-2]).head
    generator = torch.Generator().manual_seed(0)
    features, *others = (_example(node, generator) for node in embedding.graph.find_nodes(op="placeholder"))
    # A random direction: the plain sum of a normalised vector is constant.
    direction = torch.randn(embedding(features, *others).shape, generator=generator)
    return bool(layer.layout.to_grid(gradient(lambda leaf: embedding(leaf, *others) * direction, features)).any())


def _example(node: fx.Node, generator: torch.Generator) -> Tensor:
    """One row for an input: random numbers, or zeros where it takes whole numbers."""
    value = node.meta["val"]
    row = torch.zeros(1, *(int(n) for n in value.shape[1:]), dtype=value.dtype)
    return row.normal_(generator=generator) if value.dtype.is_floating_point else row


def _ends(graph: fx.Graph, layers: Layers) -> tuple[Layer, ...]:
    """The last layer of each branch: one from which no other descends.

    Of a network whose scores are a grid, on the coarsest grid that a convolution sees more of than one cell: the bottom
    of a U-Net, as in Seg-Grad-CAM (https://arxiv.org/abs/2002.11434), not what is pooled beside it. Where no weights
    follow on a way to the output, an end holds scores rather than features: the layer is then the last before it that a
    convolution on its own grid follows.
    """
    from_image = descendants(image_node(graph))
    found = {node: layer for node, layer in layers.of.items() if node in from_image}
    if scores_node(graph) in found:
        grids = {layer.layout.grid for node, layer in found.items() if _is_wide_convolution(node)}
        coarsest = min(grids, key=prod, default=None)
        found = {node: layer for node, layer in found.items() if coarsest in (layer.layout.grid, None)}
    followed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if any(not is_size(user) and (user in found or user in followed) for user in node.users):
            followed.add(node)
    ends = (layer for node, layer in found.items() if node not in followed)
    chosen = (_before_scores(layer, found) if _holds_scores(layer.node) else layer for layer in ends)
    return tuple(dict.fromkeys(layer for layer in chosen if layer is not None))


def _holds_scores(end: fx.Node) -> bool:
    """Whether some way from the value to the output crosses no operator with weights."""
    seen, waiting = {end}, [end]
    while waiting:
        for user in waiting.pop().users:
            if user.op == "output":
                return True
            if user not in seen and not is_size(user) and operator_name(user) not in _WEIGHTED:
                seen.add(user)
                waiting.append(user)
    return False


def _before_scores(end: Layer, found: dict[fx.Node, Layer]) -> Layer | None:
    """The last layer that every path to ``end`` crosses and that a convolution on its own grid follows."""
    order = dominators(end.node.graph, end.node)
    before = ancestors(end.node)
    convolutions = [node for node in before if operator_name(node) in CONVOLUTIONS]
    for node in reversed(order):
        if node not in found:
            continue
        shape, after = shape_of(node), descendants(node)
        if any(c in after and c is not node and _same_grid(c.all_input_nodes[0], shape) for c in convolutions):
            return found[node]
    return None


def _same_grid(node: fx.Node, shape: tuple[int, ...] | None) -> bool:
    own = shape_of(node)
    return own is not None and shape is not None and own[1:] == shape[1:]


def _is_pooling(node: fx.Node) -> bool:
    return operator_name(node) in _POOLING


def _is_convolution(node: fx.Node) -> bool:
    """Whether the node convolves a grid; a 1×1 convolution of pooled features is a linear layer."""
    shape = shape_of(node) or ()
    return operator_name(node) in CONVOLUTIONS and len(shape) == 3 and shape[1] * shape[2] > 1


def _is_wide_convolution(node: fx.Node) -> bool:
    """Whether the node convolves a grid with a kernel larger than one cell."""
    if not _is_convolution(node):
        return False
    kernel: tuple[int, ...] = node.all_input_nodes[1].meta["val"].shape[2:]
    return max(kernel) > 1
