"""The language of captions: what there is to say of a scene, and of which object each word speaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gradcam_service.zoo.shapes import CLASSES

if TYPE_CHECKING:
    from gradcam_service.zoo.scenes import Scene, SceneObject

PAD, START, END = "<pad>", "<start>", "<end>"

COLOURS = {
    "red": (215.0, 35.0, 40.0),
    "orange": (240.0, 125.0, 25.0),
    "yellow": (245.0, 225.0, 60.0),
    "green": (45.0, 155.0, 65.0),
    "blue": (45.0, 85.0, 220.0),
    "purple": (140.0, 50.0, 175.0),
    "white": (243.0, 243.0, 243.0),
    "black": (12.0, 12.0, 12.0),
}
"""Colour word → RGB, 0–255; any two are further apart than the variation of both."""

PLACES = (
    (("at", "the", "top", "left"), ("at", "the", "top"), ("at", "the", "top", "right")),
    (("at", "the", "left"), ("in", "the", "middle"), ("at", "the", "right")),
    (("at", "the", "bottom", "left"), ("at", "the", "bottom"), ("at", "the", "bottom", "right")),
)
"""Where something is alone: which third from the top, which third from the left → words."""

RELATIONS = (("left", "of"), ("above",), ("below",))

VOCABULARY: tuple[str, ...] = (
    *(PAD, START, END, "a", "an"),
    *COLOURS,
    *CLASSES,
    *dict.fromkeys(word for phrase in [*RELATIONS, *(p for row in PLACES for p in row)] for word in phrase),
)
"""Every word; its place is its index."""

LENGTH = 3 * 3 + 2 * 2
"""Words of the longest caption: three objects of three words, two relations of up to two."""


@dataclass(frozen=True)
class Word:
    """A word of a caption.

    Attributes:
        text: as in `VOCABULARY`.
        of: index of the object of the scene that a colour or the name of a shape speaks of; None for all other words.
    """

    text: str
    of: int | None = None


def caption(of: Scene) -> tuple[Word, ...]:
    """The caption of a scene of one to three objects: from left to right, each with its relation to the next.

    One object is given a place instead: "a red star at the top left".
    """
    order = sorted(range(len(of.objects)), key=lambda i: _middle(of.objects[i])[0])
    words: list[Word] = []
    for at, i in enumerate(order):
        item = of.objects[i]
        if at:
            words += map(Word, _relation(of.objects[order[at - 1]], item))
        name = colour(item)
        words += Word("an" if name[0] in "aeiou" else "a"), Word(name, i), Word(CLASSES[item.label], i)
    if len(order) == 1:
        words += map(Word, _place(of))
    return tuple(words)


def colour(item: SceneObject) -> str:
    """The colour word whose colour is nearest to that of ``item``."""
    distances = np.linalg.norm(np.array(list(COLOURS.values())) - item.colour, axis=1)
    return list(COLOURS)[int(distances.argmin())]


def named(words: Sequence[str]) -> frozenset[tuple[str, str]]:
    """The pairs of a colour and a shape that follow each other in ``words``: what a caption says is there."""
    return frozenset((a, b) for a, b in pairwise(words) if a in COLOURS and b in CLASSES)


def tokens(words: Sequence[str]) -> list[int]:
    """Indices of ``<start>``, the words, ``<end>`` and padding: `LENGTH` + 2."""
    written = [START, *words, END]
    return [VOCABULARY.index(word) for word in [*written, *[PAD] * (LENGTH + 2 - len(written))]]


def _middle(item: SceneObject) -> tuple[float, float]:
    """The middle of the box around what is visible, x and y."""
    x0, y0, x1, y1 = item.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def _relation(left: SceneObject, right: SceneObject) -> tuple[str, ...]:
    """How ``left`` lies to ``right``, which is not further left: by the axis on which they are further apart."""
    (x0, y0), (x1, y1) = _middle(left), _middle(right)
    beside, above, below = RELATIONS
    if abs(x1 - x0) >= abs(y1 - y0):
        return beside
    return above if y0 < y1 else below


def _place(of: Scene) -> tuple[str, ...]:
    """Where the only object is."""
    height, width = of.image.shape[:2]
    x, y = _middle(of.objects[0])
    return PLACES[int(3 * y / height)][int(3 * x / width)]
