"""How much an answer draws, known before anything is decoded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import AnswerTooLarge
from gradcam_service.images.geometry import fit
from gradcam_service.registry.spec import Card

_LEAST_SIDE = 16
Size = tuple[int, int]


def drawn_pixels(options: ExplainOptions, card: Card, sizes: Sequence[Size]) -> int:
    """Pixels of all pictures that are drawn of images of these sizes, backdrops of overlays not among them."""
    return sum(_area(options, card, size, options.max_side) for size in sizes) * _pictures(options)


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
        room = limit // _pictures(options)
        sides = range(_LEAST_SIDE, options.max_side)
        fitting = bisect_right(sides, room, key=lambda side: sum(_area(options, card, size, side) for size in sizes))
        if fitting:
            works = f"max_side={sides[fitting - 1]} would fit, and so would fewer images or targets"
    raise AnswerTooLarge(
        f"{len(sizes) * _pictures(options)} pictures of {drawn} pixels in all are asked for, at most {limit} are drawn "
        f"in one answer; {works}"
    )


def _pictures(options: ExplainOptions) -> int:
    """Drawn of each image."""
    return max(1, len(options.target or [])) * len({"heatmap", "overlay"} & set(options.outputs))


def _area(options: ExplainOptions, card: Card, size: Size, max_side: int) -> int:
    """Of one picture of an image of this size."""
    if options.size == "image":
        width, height = fit(size, max_side)
    elif options.size == "input":
        height, width = card.preprocess.input_size
    else:
        name = card.layer if options.layer == "auto" else options.layer
        _, height, width = next(layer.shape for layer in card.layers if layer.name == name)
    return width * height
