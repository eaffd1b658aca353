"""The outlines of the twelve shape classes.

No class becomes another by rotation or reflection (a diamond would be a square, a hexagon at 20 pixels a circle), and
none has its middle outside itself (a ring would), so that "the map peaks on the object" is a fair question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]  # (n, 2), x to the right and y down, closed implicitly


def _polar(radius: Callable[[Outline], Outline], n: int) -> Outline:
    """The closed curve of ``n`` points at ``radius(angle)`` from the origin."""
    angle = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    curve: Outline = (radius(angle) * np.stack([np.cos(angle), np.sin(angle)])).T
    return curve


def _mirrored(right: Iterable[tuple[float, float]]) -> Outline:
    """A shape symmetric about the vertical axis, from its right half read from top to bottom."""
    half = np.array(list(right), dtype=np.float64)
    return np.concatenate([half, half[::-1] * (-1.0, 1.0)])


def _regular(n: int) -> Outline:
    """The regular polygon of ``n`` corners."""
    return _polar(np.ones_like, n)


def _star() -> Outline:
    """Five points; the inner corners at 0.42 of the radius."""
    star: Outline = _regular(10) * np.tile([1.0, 0.42], 5)[:, None]
    return star


def _heart() -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1)


def _crescent() -> Outline:
    """The unit disc without a disc of radius 0.82 whose centre lies 0.58 to the right."""
    bite, shift = 0.82, 0.58
    x = (1 - bite**2 + shift**2) / (2 * shift)  # where the two circles meet
    y = np.sqrt(1 - x**2)
    start, inner = np.arctan2(y, x), np.arctan2(y, x - shift)
    outer_arc = np.linspace(start, 2 * np.pi - start, 48)
    inner_arc = np.linspace(2 * np.pi - inner, inner, 32)
    outer = np.stack([np.cos(outer_arc), np.sin(outer_arc)], axis=1)
    hollow = bite * np.stack([np.cos(inner_arc), np.sin(inner_arc)], axis=1) + (shift, 0.0)
    return np.concatenate([outer, hollow])


def _fish() -> Outline:
    """An elliptic body and a forked tail."""
    bow = np.linspace(-0.86 * np.pi, 0.86 * np.pi, 40)
    body = np.stack([0.68 * np.cos(bow) + 0.3, 0.46 * np.sin(bow)], axis=1)
    return np.concatenate([body, [(-0.95, 0.58), (-0.72, 0.0), (-0.95, -0.58)]])


def _flower() -> Outline:
    """Six round petals."""
    return _polar(lambda angle: 0.5 + 0.5 * np.abs(np.cos(3 * angle)) ** 0.8, 144)


_CROSS = [(0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3), (0.3, 1.0)]
_ARROW = [(0.0, -1.0), (0.78, -0.1), (0.3, -0.1), (0.3, 1.0)]
_HOURGLASS = [(0.75, -1.0), (0.75, -0.85), (0.13, 0.0), (0.75, 0.85), (0.75, 1.0)]
_LIGHTNING = [(0.05, -1.0), (0.62, -1.0), (0.25, -0.28), (0.68, -0.28), (-0.42, 1.0), (-0.08, 0.1), (-0.58, 0.1)]


def _unit(outline: Outline) -> Outline:
    """``outline`` moved and scaled so that the circle around the middle of its box that holds it is the unit circle."""
    centred = outline - (outline.min(axis=0) + outline.max(axis=0)) / 2
    scaled: Outline = centred / np.hypot(*centred.T).max()
    return scaled


OUTLINES: dict[str, Outline] = {
    name: _unit(np.asarray(outline, dtype=np.float64))
    for name, outline in {
        "arrow": _mirrored(_ARROW),
        "circle": _regular(64) * 0.85,
        "crescent": _crescent(),
        "cross": _mirrored(_CROSS),
        "fish": _fish(),
        "flower": _flower(),
        "heart": _heart(),
        "hourglass": _mirrored(_HOURGLASS),
        "lightning": np.array(_LIGHTNING),
        "square": _regular(4),
        "star": _star(),
        "triangle": _regular(3),
    }.items()
}
"""Class name → outline inside the unit circle, in the order of the class indices."""

CLASSES: tuple[str, ...] = tuple(OUTLINES)
