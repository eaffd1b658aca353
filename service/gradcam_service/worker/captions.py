"""Captions, word by word: the backbone has run once, and the head runs again for each word, on all captions at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.network import Network
from gradcam_service.text import Text


@torch.no_grad()
def spoken(
    network: Network, frontier: Frontier, tokens: Tensor, scores: Tensor, given: Sequence[bool], text: Text
) -> tuple[Tensor, Tensor]:
    """Finish captions greedily: of each, the most probable word follows, until that is the end or there is no room.

    Args:
        network: of words.
        frontier: of N images, at the default layer.
        tokens: (N, T) int64, each caption's start or, where it is given, all of it.
        scores: that follow each of them, (N, T · words).
        given: which captions are given, and stay as they are.
        text: what the words are.

    Returns:
        Tokens (N, T), and the scores (N, T · words) that follow each of them.
    """
    tokens = tokens.clone()
    never = [token for token in (text.pad, text.start) if token is not None and token != text.end]
    still = ~torch.tensor(given, device=tokens.device)
    for at in range(text.words):
        if not still.any():
            break
        following = scores.reshape(len(tokens), network.positions, -1)[:, at].index_fill(
            1, _on(tokens, never), -torch.inf
        )
        best = following.argmax(1)
        still = still & (best != text.end)
        tokens[:, at + 1] = torch.where(still, best, tokens[:, at + 1])
        scores = network.cut.head.scores(frontier, tokens)
    return tokens, scores


@torch.no_grad()
def told(tokens: Tensor, scores: Tensor) -> Tensor:
    """Of each word of captions its logit and its log-probability, given those before it, (N, (T − 1) · 2).

    All scores of a caption are as many as the vocabulary has words, for each word: megabytes, of which nothing else is
    said.

    Args:
        tokens: (N, T) int64.
        scores: that follow each of them, (N, T · words).
    """
    logits = scores.reshape(*tokens.shape, -1)[:, :-1]
    own = logits.gather(2, tokens[:, 1:, None])[..., 0]
    return torch.stack([own, own - logits.logsumexp(2)], 2).flatten(1)


def _on(tokens: Tensor, values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=tokens.device)
