"""Sensitivity-n: Ancona et al., ICLR 2018, section 4, https://arxiv.org/abs/1711.06104."""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats, Value


def sensitivity_n(value: Value, image: Floats, attribution: Floats, n: int, subsets: int, seed: int = 0) -> float:
    """How well a map's sums over n pixels tell what the value loses without them: Pearson's r, −1 to 1.

    r = corr(Σ_{i ∈ S} R_i, y(x) − y(x without S)) over random sets S of n pixels, which get the mean colour. It is 1
    for any n if the network is linear and R its input times its gradient. It is what Quantus calls faithfulness
    correlation; its own sensitivity-n removes the most important pixels and correlates over pictures. NaN where either
    is the same for all sets.

    Args:
        value: see `Value`; the paper's is the logit of a class.
        image: (C, H, W).
        attribution: (H, W), R, of whatever unit.
        n: pixels of a set.
        subsets: how many sets, so that one picture more is scored.
        seed: of the sets.
    """
    random = np.random.default_rng(seed)
    removed = np.zeros((subsets, attribution.size), np.bool_)
    for row in removed:
        row[random.choice(attribution.size, n, replace=False)] = True
    kept = ~removed.reshape(subsets, 1, *attribution.shape)
    pictures = np.concatenate([image[None], image * kept]).astype(np.float32)
    values = np.asarray(value(pictures), np.float64)
    lost, claimed = values[0] - values[1:], removed @ attribution.ravel().astype(np.float64)
    if np.ptp(lost) == 0 or np.ptp(claimed) == 0:
        return float("nan")
    return float(np.corrcoef(claimed, lost)[0, 1])
