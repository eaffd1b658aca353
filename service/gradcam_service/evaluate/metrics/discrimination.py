"""Class discrimination: do the maps of two objects of one picture differ, and each lie on its own?"""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats, Mask


def densities(maps: Floats, masks: Mask) -> Floats:
    """The mean of each map over each object, (K, K): a row for each map, a column for each object.

    Means, not sums, since a large object would otherwise win every map.

    Args:
        maps: (K, H, W), of K classes that are present; what speaks against a class, below 0, counts as 0.
        masks: (K, H, W), each one's object, of at least one pixel.
    """
    pixels = masks.reshape(len(masks), -1).astype(np.float64)
    means: Floats = np.maximum(maps, 0).reshape(len(maps), -1) @ pixels.T / pixels.sum(1)
    return means


def discriminated(maps: Floats, masks: Mask) -> Mask:
    """Whether each map is denser on its own object than on any other, (K,); see `densities`. By chance: 1 of K."""
    means = densities(maps, masks)
    others = np.where(np.eye(len(means), dtype=np.bool_), -np.inf, means)
    decided: Mask = means.diagonal() > others.max(axis=1, initial=-np.inf)
    return decided
