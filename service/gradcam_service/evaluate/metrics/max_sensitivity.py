"""Max-sensitivity: Yeh et al., NeurIPS 2019, definition 2.1, https://arxiv.org/abs/1901.09392."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats


def max_sensitivity(
    explain: Callable[[np.ndarray], Floats], image: Floats, radius: float, samples: int, seed: int = 0
) -> float:
    """How far the map goes at most when the picture hardly changes; less is better, 0 the least.

    max ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖ over random δ with |δ_i| ≤ r. The paper doesn't divide; maps have units
    here. NaN where the map is zero.

    Args:
        explain: pictures (N, C, H, W) float32 → the maps of the same class, (N, …).
        image: (C, H, W).
        radius: r, in units of the network's input.
        samples: how many δ, so that one picture more is explained.
        seed: of the δ.
    """
    noise = np.random.default_rng(seed).uniform(-radius, radius, (samples, *image.shape))
    pictures = np.concatenate([image[None], image + noise]).astype(np.float32)
    maps = np.asarray(explain(pictures), np.float64).reshape(samples + 1, -1)
    norm = np.linalg.norm(maps[0])
    return float(np.linalg.norm(maps[1:] - maps[0], axis=1).max() / norm) if norm > 0 else float("nan")
