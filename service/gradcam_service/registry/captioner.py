"""Networks that are decoded word by word: brought into one form, and checked before they answer anybody."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, fx

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.graph import image_node, scores_node, shape_of
from gradcam_service.explain.network import Network
from gradcam_service.explain.prefixes import after_each_token
from gradcam_service.text import Text

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4
"""Of the largest logit."""


def of_every_position(graph_module: fx.GraphModule, text: Text) -> fx.GraphModule:
    """A captioner's graph to logits (N, T, words), also of one that answers with those of the next word, (N, words).

    Raises:
        ModelFailed: it takes padding for words, so that it can't be asked about several captions at once.
    """
    if shape_of(scores_node(graph_module.graph)) != (len(text.vocabulary),):
        return graph_module
    _refuse_reading_padding(graph_module, text)
    return after_each_token(graph_module, text.pad)


@torch.no_grad()
def _refuse_reading_padding(graph_module: fx.GraphModule, text: Text) -> None:
    """Compare a beginning with the same filled up with padding, where the network takes fewer tokens at all."""
    shape = shape_of(image_node(graph_module.graph))
    assert shape is not None
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    row = torch.from_numpy(text.example())[None]
    half = (text.length + 1) // 2
    filled = torch.cat([row[:, :half], torch.full_like(row[:, half:], text.pad)], 1)
    try:
        short = graph_module(image, row[:, :half])
    except Exception:  # whatever operators raise that were traced for another number of tokens
        log.info("the captioner takes %d tokens alone, so that nobody knows what padding is to it", text.length)
        return
    if not _are_alike(short, graph_module(image, filled)):
        raise ModelFailed(
            f"the captioner takes {text.vocabulary[text.pad]!r} for a word: return the logits of every position, "
            f"(N, {text.length}, words), or those after the last token that is no padding"
        )


@torch.no_grad()
def check(network: Network, images: Tensor, text: Text) -> None:
    """See that a captioner can be decoded so: each word's logits depend on those before it alone.

    Raises:
        ModelFailed: they don't, or its features depend on words, or words have no start or end.
    """
    if text.start is None or text.end is None:
        raise ModelFailed(
            "a captioner's tokenizer needs a token that begins captions, <start>, and one that ends, <end>"
        )
    if network.positions != text.length:
        raise ModelFailed(
            f"a captioner maps tokens (N, {text.length}), its length, to logits (N, {text.length}, words): at each the "
            f"next word's; or to these of the word after the last, (N, {len(text.vocabulary)})"
        )
    _, tokens = network.cut.backbone.graph.find_nodes(op="placeholder")
    if tokens.users:
        raise ModelFailed("the captioner's feature maps depend on the words; name a layer before they come in")
    row = text.example()
    half = text.length // 2
    changed = np.concatenate([row[: half + 1], np.full(text.length - half - 1, text.pad)])
    both = torch.from_numpy(np.stack([row, changed])).to(images.device)
    first, second = network.scores(images[:1].expand(2, *images.shape[1:]), both).reshape(2, text.length, -1)
    if not _are_alike(first[: half + 1], second[: half + 1]):
        raise ModelFailed("the captioner's logits at a token depend on tokens after it; mask these (causal attention)")


def _are_alike(logits: Tensor, others: Tensor) -> bool:
    """Whether logits differ by no more than rounding; some may be -inf, of words that never follow."""
    known = logits.isfinite() & others.isfinite()
    if not bool((known | (logits == others)).all()):
        return False
    difference = torch.where(known, logits - others, 0.0).abs().max()
    return bool(difference <= _TOLERANCE * torch.where(known, logits, 0.0).abs().max())
