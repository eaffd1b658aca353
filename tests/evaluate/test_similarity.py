"""Similarity of maps, and the verdict on a method whose maps stay."""

import numpy as np
import pytest

from gradcam_service.evaluate.metrics.sanity import ignores_weights
from gradcam_service.evaluate.metrics.similarity import scaled, structural_similarity

RANDOM = np.random.default_rng(0)
FIRST, SECOND = RANDOM.random((18, 21)), RANDOM.random((18, 21))


def by_definition(first, second):
    """SSIM as Wang et al. write it, window by window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    x, y = ((of - of.min()) / (of.max() - of.min()) for of in (first, second))
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (of[top : top + 11, left : left + 11] for of in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            together = (window * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(luminance * (2 * together + 9e-4) / (var_a + var_b + 9e-4))
    return np.mean(values)


def test_structural_similarity_is_wangs():
    mixed = 0.7 * FIRST + 0.3 * SECOND
    assert structural_similarity(FIRST, mixed) == pytest.approx(by_definition(FIRST, mixed), abs=1e-9)
    assert 0.5 < structural_similarity(FIRST, mixed) < 0.99


def test_a_map_is_like_itself_in_any_unit_and_unlike_its_opposite():
    assert structural_similarity(FIRST, 3 * FIRST - 2) == pytest.approx(1)
    assert structural_similarity(FIRST, -FIRST) < -0.5
    assert abs(structural_similarity(FIRST, SECOND)) < 0.2


def test_small_maps_are_compared_whole():
    assert structural_similarity(FIRST[:4, :4], FIRST[:4, :4]) == pytest.approx(1)


def test_a_constant_map_is_zero_when_scaled():
    assert not scaled(np.full((3, 3), 7.0)).any()


@pytest.mark.parametrize(
    ("curves", "verdict"),
    [
        ([[1, 1], [1, 1]], True),
        ([[1, 1], [0.99, 0.95]], True),
        ([[1, 1], [0.99, 0.3]], False),  # one picture's map has changed
        ([[0.1, 0.1], [np.nan, np.nan]], False),  # an empty map has changed
    ],
)
def test_a_method_ignores_the_weights_if_its_maps_stay_to_the_end(curves, verdict):
    assert ignores_weights(np.array(curves)) == verdict
