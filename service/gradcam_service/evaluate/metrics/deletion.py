"""Deletion and insertion: Petsiuk et al., RISE, BMVC 2018, section 4.1, https://arxiv.org/abs/1806.07421."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcam_service.evaluate.metrics.arrays import Floats, Value, area_under, ranked

_SIGMA = 5.0
"""Of the blur that insertion starts from, in pixels, cut off at one sigma: the paper's kernel of 11 × 11."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What is explained, as pixels go or come.

    Attributes:
        fractions: (n + 1,), of the pixels that have been replaced, from 0 to 1.
        values: (n + 1,), then.
    """

    fractions: Floats
    values: Floats

    @property
    def area(self) -> float:
        """Under the curve, by the trapezoidal rule: the mean value on the way."""
        return area_under(self.fractions, self.values)


def deletion(value: Value, image: Floats, saliency: Floats, steps: int) -> Curve:
    """The value while the most important pixels are replaced by the mean colour. A good map's area is small.

    Args:
        value: see `Value`; the paper's is the probability of a class.
        image: (C, H, W).
        saliency: (H, W).
        steps: n, so that n + 1 pictures are scored.
    """
    return _curve(value, replaced(image, np.zeros_like(image), saliency, steps))


def insertion(value: Value, image: Floats, saliency: Floats, steps: int) -> Curve:
    """The value while the most important pixels come back into the blurred picture. A good map's area is large.

    Args:
        value: see `Value`; the paper's is the probability of a class.
        image: (C, H, W).
        saliency: (H, W).
        steps: n, so that n + 1 pictures are scored.
    """
    return _curve(value, replaced(blurred(image), image, saliency, steps))


def blurred(image: Floats) -> Floats:
    """A picture (C, H, W) in which nothing can be made out but where it is bright and of which colour."""
    from scipy.ndimage import gaussian_filter  # which workers need that are asked for quality

    soft: Floats = gaussian_filter(image, (0, _SIGMA, _SIGMA), truncate=1.0, mode="nearest")
    return soft


def replaced(image: Floats, by: Floats, saliency: Floats, steps: int) -> NDArray[np.float32]:
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


def _curve(value: Value, pictures: NDArray[np.float32]) -> Curve:
    return Curve(np.linspace(0, 1, len(pictures)), np.asarray(value(pictures), np.float64))
