"""Deletion and insertion: Petsiuk et al., RISE, BMVC 2018, section 4.1, https://arxiv.org/abs/1806.07421."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradcam_service.evaluate.metrics.arrays import Floats, Value
from gradcam_service.explain.quality import area_under, blurred, replaced


@dataclass(frozen=True, eq=False)
class Curve:
    """Curve of what is explained, as pixels go or come.

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


def _curve(value: Value, pictures: NDArray[np.float32]) -> Curve:
    return Curve(np.linspace(0, 1, len(pictures)), np.asarray(value(pictures), np.float64))
