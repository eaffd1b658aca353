"""Similarity of two maps, as sanity checks compare them: Adebayo et al., section 4, https://arxiv.org/abs/1810.03292."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from gradcam_service.evaluate.metrics.arrays import Floats

_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03
"""Wang et al.'s own: the window, 11 × 11 pixels, and what keeps quotients from blowing up."""


def scaled(saliency: Floats) -> Floats:
    """A map of whatever shape, its extremes at 0 and 1; a constant one is 0 everywhere."""
    low, high = saliency.min(), saliency.max()
    unit: Floats = (saliency - low) / (high - low) if high > low else np.zeros_like(saliency)
    return unit


def structural_similarity(first: Floats, second: Floats) -> float:
    """SSIM of two maps, 1 where they are the same: Wang et al., 2004, equation 13, of maps scaled to 0–1.

    The window is a Gaussian, mirrored at the border, and the mean is over those pixels whose window is inside, if any.

    Args:
        first: (H, W).
        second: (H, W).
    """
    x, y = (scaled(of).astype(np.float64) for of in (first, second))
    mean_x, mean_y, xx, yy, xy = (_windowed(of) for of in (x, y, x * x, y * y, x * y))
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    alike = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    alike *= (2 * covariance + c2) / (variance_x + variance_y + c2)
    border = 5 if min(x.shape) > 10 else 0
    return float(alike[border : x.shape[0] - border, border : x.shape[1] - border].mean())


def _windowed(values: Floats) -> Floats:
    mean: Floats = gaussian_filter(values, _SIGMA, radius=5)
    return mean
