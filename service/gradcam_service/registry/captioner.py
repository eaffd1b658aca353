"""Whether a network can be decoded word by word: checked before it answers anybody."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.network import Network
from gradcam_service.text import Text

_TOLERANCE = 1e-4
"""Of the largest logit."""


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
            "next word's; return these of every position"
        )
    _, tokens = network.cut.backbone.graph.find_nodes(op="placeholder")
    if tokens.users:
        raise ModelFailed("the captioner's feature maps depend on the words; name a layer before they come in")
    row = text.example()
    half = text.length // 2
    changed = np.concatenate([row[: half + 1], np.full(text.length - half - 1, text.pad)])
    both = torch.from_numpy(np.stack([row, changed])).to(images.device)
    first, second = network.scores(images[:1].expand(2, *images.shape[1:]), both).reshape(2, text.length, -1)
    if not (first - second)[: half + 1].abs().max() <= _TOLERANCE * first.abs().max():
        raise ModelFailed("the captioner's logits at a token depend on tokens after it; mask these (causal attention)")
