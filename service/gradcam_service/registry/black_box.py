"""A network of which nothing but its scores is known, as a graph of one node."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from gradcam_service.explain.graph import flat
from gradcam_service.registry.spec import Preprocess
from gradcam_service.text import TOKENS, Text


def black_box(
    module: nn.Module, preprocess: Preprocess, scores: Sequence[int], reason: str, text: Text | None = None
) -> fx.GraphModule:
    """Wrap a module so that nothing inside it is looked at or differentiated.

    Args:
        module: maps images (N, C, H, W) float32, and tokens (N, T) where it takes text, to scores.
        preprocess: what the images have been through.
        scores: the shape of those of an image.
        reason: why it is one, for those who ask for what needs more.
        text: of what text comes beside images; None for none.
    """
    graph = fx.Graph()
    inputs = [graph.placeholder("images")]
    inputs[0].meta["val"] = torch.empty(2, len(preprocess.mean), *preprocess.input_size, device="meta")
    if text is not None:
        inputs.append(graph.placeholder(TOKENS))
        inputs[1].meta["val"] = torch.empty(2, text.length, dtype=torch.int64, device="meta")
    answer = graph.call_module("inner", tuple(inputs))
    answer.meta["val"] = torch.empty(2, *scores, device="meta")
    graph.output(answer)
    graph_module = flat(fx.GraphModule({"inner": module}, graph))
    graph_module.meta["opaque"] = reason
    return graph_module
