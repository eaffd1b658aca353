"""Bound on what an answer draws and holds, known before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import AnswerTooLarge
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.geometry import fit
from gradcam_service.registry.card import Card

_LEAST_SIDE = 16
Size: TypeAlias = tuple[int, int]
Asked: TypeAlias = Sequence[tuple[ExplainOptions, Size]]
"""What is asked of each image, and its width and height."""


def drawn_pixels(asked: Asked, card: Card) -> int:
    """Pixels of all pictures that are drawn, and values of all maps that are returned."""
    returned = sum(_values(options, card) for options, _ in asked if "map" in options.outputs)
    return _pixels(asked, card) + returned


def held_bytes(asked: Asked, card: Card) -> int:
    """Bytes of all maps, and of pictures that hardly compress, or of what they are drawn on."""
    return 3 * _pixels(asked, card) + 4 * sum(_values(options, card) for options, _ in asked)


def check(asked: Asked, card: Card, limit: int) -> None:
    """Refuse to draw more than ``limit`` pixels.

    Raises:
        AnswerTooLarge: saying what would fit.
    """
    drawn = drawn_pixels(asked, card)
    if drawn <= limit:
        return
    works = "fewer images or targets would fit"
    longest = max((options.max_side for options, _ in asked if options.size == "image"), default=0)
    sides = range(_LEAST_SIDE, longest)
    room = limit - (drawn - _pixels(asked, card))
    if fitting := bisect_right(sides, room, key=lambda side: _pixels(asked, card, side)):
        works = f"max_side={sides[fitting - 1]} would fit, and so would fewer images or targets"
    count = sum(_targets(options, card) * len(options.outputs) for options, _ in asked)
    raise AnswerTooLarge(
        f"{count} pictures and maps of {drawn} pixels in all are asked for, at most {limit} fit into an answer; {works}"
    )


def _targets(options: ExplainOptions, card: Card) -> int:
    return len(options.target or []) or card.default_targets


def _pixels(asked: Asked, card: Card, max_side: int | None = None) -> int:
    """Of all pictures, none of whose sides is longer than ``max_side``."""
    return sum(
        len({"heatmap", "overlay"} & set(options.outputs))
        * _targets(options, card)
        * _area(options, card, size, max_side)
        for options, size in asked
    )


def _values(options: ExplainOptions, card: Card) -> int:
    """Of all maps of an image."""
    channels = card.input.count if METHODS[options.explained_by(card)].kind == "signed_colour" else 1
    width, height = _grid(options, card)
    return _targets(options, card) * channels * width * height


def _area(options: ExplainOptions, card: Card, size: Size, max_side: int | None) -> int:
    """Of one picture of an image of this size."""
    if options.size == "image":
        side = options.max_side if max_side is None else min(max_side, options.max_side)
        width, height = fit(size, side) if min(size) > 0 else (0, 0)  # what isn't known is never drawn
    elif options.size == "input":
        height, width = card.preprocess.input_size
    else:
        width, height = _grid(options, card)
    return width * height


def _grid(options: ExplainOptions, card: Card) -> Size:
    """Of a map: the layer's that is explained, where the card has it; else at most the input's."""
    height, width = card.preprocess.input_size
    method = METHODS[options.explained_by(card)]
    if not method.of_input and method.kind != "signed_colour":
        name = card.layer if options.layer == "auto" else options.layer
        _, height, width = next((layer.shape for layer in card.layers if layer.name == name), (0, height, width))
    return width, height
