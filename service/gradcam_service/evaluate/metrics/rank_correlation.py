"""Agreement of two maps in what is more important.

With the map of Occlusion as the other, this is the Grad-CAM paper's measure of faithfulness (section 6.2).
"""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats

_DIGITS = 12
"""Of the largest value, which are ranked. Interpolation makes ties, which the last digit would break at random."""


def rank_correlation(saliency: Floats, other: Floats, patch: int = 1) -> float:
    """Spearman's ρ of two maps over square patches, −1 to 1; NaN where one of them is constant: it ranks nothing.

    Args:
        saliency: (H, W).
        other: (H, W).
        patch: side of a patch, pixels; what is left of the picture at its right and bottom is a patch, too.
    """
    from scipy.stats import spearmanr  # 0.7 s and 45 MB, which workers need that are asked for quality

    first, second = (_digits(patch_means(of, patch).ravel()) for of in (saliency, other))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _digits(means: Floats) -> Floats:
    digits: Floats = np.round(means / (abs(means).max() or 1), _DIGITS)
    return digits


def patch_means(saliency: Floats, patch: int) -> Floats:
    """The means of a map (H, W) over square patches, (⌈H / patch⌉, ⌈W / patch⌉)."""
    rows, columns = (np.arange(0, length, patch) for length in saliency.shape)
    sums = np.add.reduceat(np.add.reduceat(saliency.astype(np.float64), rows, 0), columns, 1)
    areas = np.add.reduceat(np.add.reduceat(np.ones(saliency.shape), rows, 0), columns, 1)
    means: Floats = sums / areas
    return means
