"""ROAD, remove and debias: Rong et al., ICML 2022, https://arxiv.org/abs/2202.00449.

Pixels that are set to a constant tell where they were, and the network may go by that. ROAD replaces them by what their
neighbours let expect, with a little noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from gradcam_service.evaluate.metrics.arrays import Floats, Mask, Value
from gradcam_service.explain.quality import ranked

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the pixels that are removed."""
_NOISE = 0.01
"""Standard deviation, in units of the network's input."""
_NEIGHBOURS = [
    (dy, dx, 1 / 6 if dy == 0 or dx == 0 else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
]
"""How a pixel is expected to be: the weighted mean of its neighbours, those beside it at twice the weight of those
across a corner (section 4.2)."""

_SYMMETRIC: dict[str, Any] = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}
"""SuperLU's way with symmetric matrices whose diagonal dominates, in half to two thirds of the time."""


def road(value: Value, image: Floats, saliency: Floats, seed: int = 0) -> tuple[float, float]:
    """The mean value when the most, and when the least, important pixels are removed.

    A good map's first number is small and its second is large; half of their difference is one number for both. The
    paper's own number, and Quantus's, is how often the label stays: the mean of that as the value.

    Args:
        value: see `Value`; the paper's is the probability of a class.
        image: (C, H, W).
        saliency: (H, W).
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    order = ranked(saliency)
    pictures = [
        imputed(image, _mask(first[: round(fraction * saliency.size)], saliency.shape), random)
        for first in (order, order[::-1])
        for fraction in FRACTIONS
    ]
    most, least = np.split(np.asarray(value(np.stack(pictures).astype(np.float32)), np.float64), 2)
    return float(most.mean()), float(least.mean())


def imputed(image: Floats, removed: Mask, random: np.random.Generator | None = None) -> Floats:
    """A picture whose removed pixels are each the weighted mean of their neighbours, removed ones included, and noise.

    That is one linear equation for each removed pixel; neighbours outside the picture have no weight.

    Args:
        image: (C, H, W).
        removed: (H, W), at least one pixel of which stays.
        random: of the noise; None for none.
    """
    number = np.full(removed.shape, -1)
    number[removed] = np.arange(removed.sum())
    ys, xs = np.nonzero(removed)
    rows, columns, entries = [number[removed]], [number[removed]], [np.zeros(len(ys))]
    known = np.zeros((len(ys), image.shape[0]))
    for dy, dx, weight in _NEIGHBOURS:
        y, x = ys + dy, xs + dx
        (inside,) = np.nonzero((y >= 0) & (y < removed.shape[0]) & (x >= 0) & (x < removed.shape[1]))
        entries[0][inside] += weight  # of what is inside the picture
        unknown = removed[y[inside], x[inside]]
        of_unknown, of_known = inside[unknown], inside[~unknown]
        rows.append(of_unknown)
        columns.append(number[y[of_unknown], x[of_unknown]])
        entries.append(np.full(len(of_unknown), -weight))
        known[of_known] += weight * image[:, y[of_known], x[of_known]].T
    places = np.concatenate(rows), np.concatenate(columns)
    system = csc_array((np.concatenate(entries), places), shape=(len(ys), len(ys)))
    expected = splu(system, **_SYMMETRIC).solve(known)
    filled = image.astype(np.float64)
    filled[:, removed] = expected.T + (random.normal(0, _NOISE, expected.T.shape) if random else 0)
    return filled


def _mask(pixels: np.ndarray, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, np.bool_)
    mask.flat[pixels] = True
    return mask
