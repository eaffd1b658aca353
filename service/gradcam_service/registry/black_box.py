"""A network of which nothing but its scores is known, as a graph of one node."""

from __future__ import annotations

import torch
from torch import fx, nn

from gradcam_service.explain.graph import flat
from gradcam_service.registry.spec import Preprocess


def black_box(module: nn.Module, preprocess: Preprocess, classes: int, reason: str) -> fx.GraphModule:
    """Wrap a module so that nothing inside it is looked at or differentiated.

    Args:
        module: maps images (N, C, H, W) float32 to scores (N, classes).
        preprocess: what the images have been through.
        classes: how many scores it answers with.
        reason: why it is one, for those who ask for what needs more.
    """
    graph = fx.Graph()
    image = graph.placeholder("images")
    image.meta["val"] = torch.empty(2, len(preprocess.mean), *preprocess.input_size, device="meta")
    scores = graph.call_module("inner", (image,))
    scores.meta["val"] = torch.empty(2, classes, device="meta")
    graph.output(scores)
    graph_module = flat(fx.GraphModule({"inner": module}, graph))
    graph_module.meta["opaque"] = reason
    return graph_module
