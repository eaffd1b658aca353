"""Means and their 95 % intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.959964
"""The normal distribution's 97.5 % quantile."""
_RESAMPLES = 1000
_HELD = 1 << 20
"""Pictures drawn that are held at once."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes:
        mean: over all values.
        low: end of the interval.
        high: the other end.
        values: how many there are.
        pictures: that they come from.
    """

    mean: float
    low: float
    high: float
    values: int
    pictures: int


def estimate(values: Iterable[tuple[str, float | bool]]) -> Estimate | None:
    """The mean of values, each of a picture, and its interval; None of none.

    What is true of two objects of one picture isn't independent, so that pictures are what is counted. Shares (of
    bools) have Wilson's interval, which is right near 0 and 1, too; others a percentile bootstrap over pictures.

    Args:
        values: the picture's name, and the value.
    """
    by_picture: dict[str, list[float]] = defaultdict(list)
    are_shares = True
    for picture, value in values:
        by_picture[picture].append(float(value))
        are_shares &= isinstance(value, bool)
    if not by_picture:
        return None
    own = list(by_picture.values())
    sums, counts = np.array([sum(of) for of in own]), np.array([len(of) for of in own])
    mean = float(sums.sum() / counts.sum())
    low, high = wilson(mean, len(own)) if are_shares else _bootstrap(sums, counts)
    return Estimate(mean, low, high, int(counts.sum()), len(own))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share observed in n trials, 95 %."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _bootstrap(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Percentiles of the mean over pictures drawn with replacement, each with all of its values."""
    random = np.random.default_rng(0)
    at_once = max(1, _HELD // len(sums))
    means = []
    for first in range(0, _RESAMPLES, at_once):
        drawn = random.integers(0, len(sums), (min(at_once, _RESAMPLES - first), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def mean_of(estimates: Sequence[Estimate]) -> float | None:
    """The mean of means, each counting alike; None of none."""
    return sum(each.mean for each in estimates) / len(estimates) if estimates else None
