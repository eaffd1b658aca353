"""Bias of a data set as maps show it (Grad-CAM paper, section 5.3): does one group's mass lie elsewhere?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.explain.quality import patch_means

LEVEL = 0.05
"""Chance of naming any difference where there is none."""


@dataclass(frozen=True)
class Difference:
    """Difference of one group to all others, in one region.

    Attributes:
        group: its name.
        region: its index.
        mean: of the share of a map's mass that lies in the region, over the group.
        difference: to the mean over the others.
        low: end of its bootstrap interval, 95 % for this difference by itself.
        high: the other end.
        p: chance of so large a difference of any group in any region, were groups drawn by lot.
    """

    group: str
    region: int
    mean: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def found(self) -> bool:
        """Whether chance is no explanation."""
        return self.p <= LEVEL


def shares(maps: Floats, cells: int) -> Floats:
    """How the mass of maps is spread over a grid of cells, (N, cells²), each row of sum 1, or of 0 of an empty map.

    Args:
        maps: (N, H, W), as large as one another; what is below 0 counts as 0.
        cells: along a side.
    """
    side = -(-max(maps.shape[1:]) // cells)
    height, width = maps.shape[1:]
    wanted = ((0, side * cells - height), (0, side * cells - width))
    masses = np.stack([patch_means(np.pad(np.maximum(own, 0), wanted), side).ravel() for own in maps])
    total = masses.sum(axis=1, keepdims=True)
    spread: Floats = np.divide(masses, total, out=np.zeros_like(masses), where=total > 0)
    return spread


def differences(shares: Floats, groups: Sequence[str], resamples: int = 1999) -> list[Difference]:
    """Every group against all others, in every region.

    The chances are those of a permutation test with the largest standardised difference of all groups and regions as
    its statistic, so that `LEVEL` holds for all of them together (Westfall & Young, 1993).

    Args:
        shares: (N, regions), see `shares`.
        groups: each picture's, (N,); at least two of at least two pictures.
        resamples: permutations, and resamples of a bootstrap.
    """
    random = np.random.default_rng(0)
    named, own = np.unique(np.asarray(groups), return_inverse=True)
    deviations = shares.std(axis=0)
    standard = np.divide(shares - shares.mean(0), deviations, out=np.zeros_like(shares), where=deviations > 0)
    counts = np.bincount(own)
    scale = np.sqrt(counts * (len(own) - counts) / len(own))[:, None]

    def contrasts(members: np.ndarray) -> Floats:
        of_group = (members == np.arange(len(named))[:, None]).astype(np.float64)
        sums = of_group @ standard
        found: Floats = scale * np.abs(sums / counts[:, None] + sums / (len(own) - counts)[:, None])
        return found  # the others' sum is −sums

    observed = contrasts(own)
    largest = np.array([contrasts(random.permutation(own)).max() for _ in range(resamples)])
    p = (1 + (largest[:, None, None] >= observed - 1e-9).sum(0)) / (1 + resamples)
    return [
        Difference(
            str(name), region, *_interval(share[own == g], share[own != g], resamples, random), float(p[g, region])
        )
        for g, name in enumerate(named)
        for region, share in enumerate(shares.T)
    ]


def average_maps(maps: Floats, groups: Sequence[str]) -> dict[str, Floats]:
    """The mean of each group's maps, (H, W) by name, every map scaled to a mass of 1 so that none outweighs another."""
    positive = np.maximum(maps, 0)
    mass = positive.sum(axis=(1, 2), keepdims=True)
    scaled = np.divide(positive, mass, out=np.zeros_like(positive), where=mass > 0)
    names = np.asarray(groups)
    return {str(name): scaled[names == name].mean(axis=0) for name in np.unique(names)}


def _interval(
    inside: Floats, outside: Floats, resamples: int, random: np.random.Generator
) -> tuple[float, float, float, float]:
    """The group's mean, the difference to the others', and the ends of its 95 % interval."""
    mean = float(inside.mean())
    difference = mean - float(outside.mean())
    low, high = bootstrap(
        (inside, outside),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        n_resamples=resamples,
        batch=200,
        method="percentile",
        rng=random,
    ).confidence_interval
    return mean, difference, float(low), float(high)
