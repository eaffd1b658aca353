"""Captions, word by word: the backbone has run once, and the head runs again for each word, on all captions at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from gradcam_service.explain.arrays import Array, arrays, gather, log_sum_exp, on_host
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.parts import Network
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


def spoken(
    network: Network,
    frontier: Frontier,
    tokens: Array,
    scores: Array,
    widths: Sequence[int],
    text: Text,
    most: int,
) -> tuple[Array, Array]:
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
    xp = arrays(tokens)
    tokens = xp.asarray(tokens, copy=True)
    found: dict[int, _Begun] = {}
    begun = [_Begun(row) for row, width in enumerate(widths) if width]
    for at in range(text.words):
        if not begun:
            break
        rows = [one.row for one in begun]
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
        tokens[one.row, 1 : 1 + len(words)] = xp.asarray(words, dtype=tokens.dtype, device=tokens.device)
    return tokens, _scores(network, frontier, tokens, range(len(tokens)), most)


def word_scores(tokens: Array, scores: Array) -> Array:
    """Of each word of captions its logit and its log-probability, given those before it, (N, (T − 1) · 2).

    All scores of a caption are as many as the vocabulary has words, for each word: megabytes, of which nothing else is
    said.

    Args:
        tokens: (N, T) int64.
        scores: that follow each of them, (N, T · words).
    """
    xp, (rows, length) = arrays(tokens), tokens.shape
    logits = scores.reshape(rows, length, -1)[:, :-1]
    own = gather(logits.reshape(rows * (length - 1), -1), tokens[:, 1:].reshape(-1, 1)).reshape(rows, length - 1)
    return xp.stack([own, own - log_sum_exp(logits, 2)], 2).reshape(rows, -1)


def _filled(tokens: Array, begun: Sequence[_Begun]) -> Array:
    """The tokens (M, T) of captions so far, all of as many words; ``tokens`` (N, T) has their start and padding."""
    words = arrays(tokens).asarray([one.words for one in begun], device=tokens.device)
    filled = tokens[[one.row for one in begun]]
    filled[:, 1 : 1 + words.shape[1]] = words
    return filled


def _scores(network: Network, frontier: Frontier, tokens: Array, rows: Sequence[int], most: int) -> Array:
    """The scores (M, T · words) of M captions, each of the image in its row of the frontier."""
    parts = [slice(first, first + most) for first in range(0, len(rows), most)]
    found = [network.cut.head.scores(frontier.rows(list(rows[part])), tokens[part]) for part in parts]
    return arrays(tokens).concatenate(found)


def _ways(begun: Sequence[_Begun], logits: Array, most: int, text: Text) -> Iterator[_Begun]:
    """Each caption so far with each of the most probable words after it, of logits (M, words)."""
    never = [token for token in (text.pad, text.start) if token is not None and token != text.end]
    scores = np.asarray(on_host(logits)).astype(np.float64)
    likely = scores - log_sum_exp(scores, 1)[:, None]
    likely[:, never] = -np.inf
    words = np.argsort(-likely, axis=1, kind="stable")[:, :most]
    best = np.take_along_axis(likely, words, 1)
    for one, of_words, its in zip(begun, best.tolist(), words.tolist(), strict=True):
        for word, likelihood in zip(its, of_words, strict=True):
            if likelihood > -np.inf:
                yield _Begun(one.row, (*one.words, word), one.likely + likelihood)
