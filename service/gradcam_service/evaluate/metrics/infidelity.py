"""Infidelity: Yeh et al., NeurIPS 2019, section 2, https://arxiv.org/abs/1901.09392."""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats, Value


def infidelity(value: Value, image: Floats, attribution: Floats, squares: int, seed: int = 0) -> float:
    """How far a map is from telling what the value loses without a square of the picture; less is better, 0 the least.

    E[(β Σ_{i ∈ S} Φ_i − (y(x) − y(x without S)))²] ÷ E[(y(x) − y(x without S))²] over random squares S, a
    quarter of the picture's shorter side wide, which get the mean colour. β is the best factor, as in the paper's
    experiments (appendix A), since a map's unit need not be the value's; and divided by what no map at all would miss,
    pictures of large and small scores count alike: 1 is a map that tells nothing. Quantus fits no β, and covers one
    square of a grid after the other. NaN where no square changes anything.

    Args:
        value: see `Value`; the paper's is the logit of a class.
        image: (C, H, W).
        attribution: (H, W), Φ, of whatever unit.
        squares: how many, so that one picture more is scored.
        seed: of the squares.
    """
    covers = random_squares(attribution.shape, squares, max(1, min(attribution.shape) // 4), seed)
    pictures = np.concatenate([image[None], image * ~covers[:, None]]).astype(np.float32)
    values = np.asarray(value(pictures), np.float64)
    lost = values[0] - values[1:]
    claimed = covers.reshape(squares, -1) @ attribution.ravel().astype(np.float64)
    if not np.any(lost):
        return float("nan")
    best = claimed @ lost / (claimed @ claimed) if np.any(claimed) else 0.0
    return float(np.mean((best * claimed - lost) ** 2) / np.mean(lost**2))


def random_squares(shape: tuple[int, ...], count: int, side: int, seed: int) -> np.ndarray:
    """Masks (count, H, W) of random squares wholly inside a picture."""
    random = np.random.default_rng(seed)
    tops, lefts = (random.integers(0, length - side + 1, count)[:, None, None] for length in shape)
    ys, xs = np.arange(shape[0])[:, None], np.arange(shape[1])
    inside: np.ndarray = (ys >= tops) & (ys < tops + side) & (xs >= lefts) & (xs < lefts + side)
    return inside
