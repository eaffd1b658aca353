"""Types of what metrics take, and the order in which a map ranks pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Value: TypeAlias = Callable[[NDArray[np.float32]], Floats]
"""Pictures (N, C, H, W), any N → what is explained of each, (N,): the probability or the logit of a class, or whatever
else the map is of."""


def ranked(saliency: Floats) -> NDArray[np.intp]:
    """The pixels of a map, flat, from the most important to the least.

    Ties, as where a rectified map is zero, are in random order: in reading order the map would seem to say something
    about them, and a constant map would rank the top of every picture first.

    Args:
        saliency: (H, W).
    """
    chance = np.random.default_rng(0).permutation(saliency.size)
    return np.lexsort((chance, -saliency.ravel()))


def area_under(fractions: Floats, values: Floats) -> float:
    """The area under a curve (n,) by the trapezoidal rule; fractions go from 0 to 1."""
    return float(np.trapezoid(values, fractions))
