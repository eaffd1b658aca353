"""The words of easy-VQA's questions and its answers. Those of the data set, in the order of the alphabet."""

from __future__ import annotations

from collections.abc import Sequence

PAD = "<pad>"

COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")

SHAPES = ("circle", "rectangle", "triangle")

ANSWERS: tuple[str, ...] = (*COLOURS, *SHAPES, "no", "yes")
"""Every answer; its place is its index."""

_OTHERS = "a color contain does image in is no not of present shape the there what"

VOCABULARY: tuple[str, ...] = (PAD, *sorted({*COLOURS, *SHAPES, *_OTHERS.split()}))
"""Every word of a question; its place is its index."""

LENGTH = 9
"""Words of the longest question."""


def words(question: str) -> list[str]:
    """The words of a question as the data set writes it: "is there a red shape?"."""
    return question.lower().rstrip("?").split()


def tokens(question: Sequence[str]) -> list[int]:
    """Indices of the words and of padding: `LENGTH`."""
    return [VOCABULARY.index(word) for word in [*question, *[PAD] * (LENGTH - len(question))]]
