"""Bound on what an answer draws and holds, known before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import AnswerTooLarge
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.geometry import fit
from gradcam_service.registry.card import Card

_LEAST_SIDE = 16
Size = tuple[int, int]


def drawn_pixels(options: ExplainOptions, card: Card, sizes: Sequence[Size]) -> int:
    """Pixels of all pictures that are drawn of images of these sizes, and values of all maps that are returned."""
    return _pixels(options, card, sizes, options.max_side) + _values(options, card, sizes) * ("map" in options.outputs)


def held_bytes(options: ExplainOptions, card: Card, sizes: Sequence[Size]) -> int:
    """Bytes of all maps, and of pictures that hardly compress, or of what they are drawn on."""
    return 3 * _pixels(options, card, sizes, options.max_side) + 4 * _values(options, card, sizes)


def check(options: ExplainOptions, card: Card, sizes: Sequence[Size], limit: int) -> None:
    """Refuse to draw more than ``limit`` pixels.

    Raises:
        AnswerTooLarge: saying what would fit.
    """
    drawn = drawn_pixels(options, card, sizes)
    if drawn <= limit:
        return
    works = "fewer images or targets would fit"
    if options.size == "image":
        sides = range(_LEAST_SIDE, options.max_side)
        room = limit - (drawn - _pixels(options, card, sizes, options.max_side))
        fitting = bisect_right(sides, room, key=lambda side: _pixels(options, card, sizes, side))
        if fitting:
            works = f"max_side={sides[fitting - 1]} would fit, and so would fewer images or targets"
    raise AnswerTooLarge(
        f"{len(sizes) * _targets(options) * len(options.outputs)} pictures and maps of {drawn} pixels in all are asked "
        f"for, at most {limit} fit into an answer; {works}"
    )


def _targets(options: ExplainOptions) -> int:
    return max(1, len(options.target or []))


def _pixels(options: ExplainOptions, card: Card, sizes: Sequence[Size], max_side: int) -> int:
    """Of all pictures."""
    each = len({"heatmap", "overlay"} & set(options.outputs)) * _targets(options)
    return each * sum(_area(options, card, size, max_side) for size in sizes) if each else 0


def _values(options: ExplainOptions, card: Card, sizes: Sequence[Size]) -> int:
    """Of all maps."""
    channels = card.input.count if METHODS[options.method].kind == "signed_colour" else 1
    width, height = _grid(options, card)
    return len(sizes) * _targets(options) * channels * width * height


def _area(options: ExplainOptions, card: Card, size: Size, max_side: int) -> int:
    """Of one picture of an image of this size."""
    if options.size == "image":
        width, height = fit(size, max_side) if min(size) > 0 else (0, 0)  # what isn't known is never drawn
    elif options.size == "input":
        height, width = card.preprocess.input_size
    else:
        width, height = _grid(options, card)
    return width * height


def _grid(options: ExplainOptions, card: Card) -> Size:
    """Of a map: the layer's that is explained, where the card has it; else at most the input's."""
    height, width = card.preprocess.input_size
    method = METHODS[options.method]
    if not method.of_input and method.kind != "signed_colour":
        name = card.layer if options.layer == "auto" else options.layer
        _, height, width = next((layer.shape for layer in card.layers if layer.name == name), (0, height, width))
    return width, height
