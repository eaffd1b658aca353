"""Agreement between raters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's α of interval data: 1 − disagreement within units ÷ disagreement between any two values.

    1 is perfect agreement, 0 what chance would give. For squared differences both are variances:
    α = 1 − Σ_u m_u s_u² / (n s²), s² unbiased. https://en.wikipedia.org/wiki/Krippendorff%27s_alpha

    Args:
        units: the values that each was given, by however many raters.

    Returns:
        None where it isn't defined: no unit has two values, or all values are the same.
    """
    pairable = [np.asarray(unit, np.float64) for unit in units if len(unit) > 1]
    values = np.concatenate(pairable) if pairable else np.empty(0)
    if len(set(values.tolist())) < 2:
        return None
    within = sum(len(unit) * unit.var(ddof=1) for unit in pairable)
    return float(1 - within / (len(values) * values.var(ddof=1)))


def pairs_that_agree(units: Sequence[Sequence[float]]) -> float | None:
    """The share of pairs of raters of one unit that gave it the same value; None without a pair."""
    pairs = [a == b for unit in units for a, b in combinations(unit, 2)]
    return sum(pairs) / len(pairs) if pairs else None
