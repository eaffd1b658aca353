"""Quality of a map: what becomes of a picture without the pixels that it ranks first, and its likeness to another map.

Functions of arrays, torch-free. The pictures are those of RISE: Petsiuk et al., BMVC 2018, section 4.1,
https://arxiv.org/abs/1806.07421.
"""

from __future__ import annotations

import numpy as np

_SIGMA = 5.0
"""Of the blur that insertion starts from, in pixels, cut off at one sigma: the paper's kernel of 11 × 11."""
_DIGITS = 12
"""Of the largest value, which are ranked. Interpolation makes ties, which the last digit would break at random."""


def ranked(saliency: np.ndarray) -> np.ndarray:
    """The pixels of a map, flat, from the most important to the least.

    Ties, as where a rectified map is zero, are in random order: in reading order the map would seem to say something
    about them, and a constant map would rank the top of every picture first.

    Args:
        saliency: (H, W).
    """
    chance = np.random.default_rng(0).permutation(saliency.size)
    return np.lexsort((chance, -saliency.ravel()))


def blurred(image: np.ndarray) -> np.ndarray:
    """A picture (C, H, W) in which nothing can be made out but where it is bright and of which colour."""
    from scipy.ndimage import gaussian_filter  # which workers need that are asked for quality

    soft: np.ndarray = gaussian_filter(image, (0, _SIGMA, _SIGMA), truncate=1.0, mode="nearest")
    return soft


def replaced(image: np.ndarray, by: np.ndarray, saliency: np.ndarray, steps: int) -> np.ndarray:
    """The pictures on the way from one to another, the most important pixels first, (steps + 1, C, H, W).

    Args:
        image: (C, H, W), the first.
        by: (C, H, W), the last.
        saliency: (H, W).
        steps: of equally many pixels.
    """
    place = np.empty(saliency.size, np.intp)
    place[ranked(saliency)] = np.arange(saliency.size)
    gone = place.reshape(saliency.shape) < np.rint(np.linspace(0, 1, steps + 1) * saliency.size)[:, None, None]
    return np.where(gone[:, None], by, image).astype(np.float32)


def area_under(fractions: np.ndarray, values: np.ndarray) -> float:
    """The area under a curve (n,) by the trapezoidal rule; fractions go from 0 to 1."""
    return float(np.trapezoid(values, fractions))


def rank_correlation(saliency: np.ndarray, other: np.ndarray, patch: int = 1) -> float:
    """Spearman's ρ of two maps over square patches, −1 to 1; NaN where one of them is constant: it ranks nothing.

    With the map of Occlusion as the other, this is the Grad-CAM paper's measure of faithfulness (section 6.2).

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


def _digits(means: np.ndarray) -> np.ndarray:
    digits: np.ndarray = np.round(means / (abs(means).max() or 1), _DIGITS)
    return digits


def patch_means(saliency: np.ndarray, patch: int) -> np.ndarray:
    """The means of a map (H, W) over square patches, (⌈H / patch⌉, ⌈W / patch⌉)."""
    rows, columns = (np.arange(0, length, patch) for length in saliency.shape)
    sums = np.add.reduceat(np.add.reduceat(saliency.astype(np.float64), rows, 0), columns, 1)
    areas = np.add.reduceat(np.add.reduceat(np.ones(saliency.shape), rows, 0), columns, 1)
    means: np.ndarray = sums / areas
    return means
