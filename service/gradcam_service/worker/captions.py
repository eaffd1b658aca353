"""Captions, word by word: the backbone has run once, and the head runs again for each word, on all captions at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.network import Network
from gradcam_service.text import Text


@dataclass(frozen=True)
class _Begun:
    """A caption so far, and the natural logarithm of its probability."""

    row: int
    words: tuple[int, ...] = ()
    likely: float = 0.0

    @staticmethod
    def best(some: Iterable[_Begun]) -> _Begun:
        """The most probable, of equals the first."""
        return max(some, key=lambda one: one.likely)


@torch.no_grad()
def spoken(
    network: Network,
    frontier: Frontier,
    tokens: Tensor,
    scores: Tensor,
    widths: Sequence[int],
    text: Text,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Finish captions by beam search (https://arxiv.org/abs/1409.3215): the most probable one that is found.

    At each word the most probable beginnings are followed, as many as the caption's beam is wide, all beginnings of an
    image taken together; one that ends stays what it is. A beam of 1 is greedy: the most probable word follows each
    time. One that holds all beginnings finds the most probable caption that there is.

    Args:
        network: of words.
        frontier: of N images, at the default layer.
        tokens: (N, T) int64, each caption's start or, where it is given, all of it.
        scores: that follow each of them, (N, T · words).
        widths: of each image's beam; 0 where the caption is given, and stays as it is.
        text: what the words are.
        most: rows of one pass of the head.

    Returns:
        Tokens (N, T), and the scores (N, T · words) that follow each of them.
    """
    if not any(widths):
        return tokens, scores
    tokens = tokens.clone()
    found: dict[int, _Begun] = {}
    begun = [_Begun(row) for row, width in enumerate(widths) if width]
    for at in range(text.words):
        if not begun:
            break
        rows = torch.tensor([one.row for one in begun], device=tokens.device)
        following = scores[rows] if at == 0 else _scores(network, frontier, _filled(tokens, begun), rows, most)
        logits = following.reshape(len(begun), network.positions, -1)[:, at]
        ways, begun = _ways(begun, logits, max(widths), text), []
        for row, of_row in groupby(ways, key=lambda way: way.row):
            chosen = sorted(of_row, key=lambda way: -way.likely)[: widths[row]]
            ended = [way for way in chosen if way.words[-1] == text.end]
            if ended:
                found[row] = _Begun.best([found[row], *ended] if row in found else ended)
            going = [way for way in chosen if way.words[-1] != text.end]
            if row not in found or any(way.likely > found[row].likely for way in going):
                begun += going
    for one in begun:  # there is no room for more words
        found[one.row] = _Begun.best([found[one.row], one] if one.row in found else [one])
    for one in found.values():
        words = [word for word in one.words if word != text.end]
        tokens[one.row, 1 : 1 + len(words)] = torch.tensor(words, dtype=tokens.dtype, device=tokens.device)
    return tokens, _scores(network, frontier, tokens, torch.arange(len(tokens), device=tokens.device), most)


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


def _filled(tokens: Tensor, begun: Sequence[_Begun]) -> Tensor:
    """The tokens (M, T) of captions so far, all of as many words; ``tokens`` (N, T) has their start and padding."""
    words = torch.tensor([one.words for one in begun], device=tokens.device)
    filled = tokens[[one.row for one in begun]]
    filled[:, 1 : 1 + words.shape[1]] = words
    return filled


def _scores(network: Network, frontier: Frontier, tokens: Tensor, rows: Tensor, most: int) -> Tensor:
    """The scores (M, T · words) of M captions, each of the image in its row of the frontier."""
    parts = zip(torch.split(rows, most), torch.split(tokens, most), strict=True)
    return torch.cat([network.cut.head.scores(frontier.rows(some), own) for some, own in parts])


def _ways(begun: Sequence[_Begun], logits: Tensor, most: int, text: Text) -> Iterator[_Begun]:
    """Each caption so far with each of the most probable words after it, of logits (M, words)."""
    never = [token for token in (text.pad, text.start) if token is not None and token != text.end]
    likely = logits.double().log_softmax(1).index_fill(1, torch.tensor(never, device=logits.device), -torch.inf)
    best, words = likely.topk(min(most, likely.shape[1]), dim=1)
    for one, of_words, its in zip(begun, best.tolist(), words.tolist(), strict=True):
        for word, likelihood in zip(its, of_words, strict=True):
            if likelihood > -torch.inf:
                yield _Begun(one.row, (*one.words, word), one.likely + likelihood)
