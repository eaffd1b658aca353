"""Adversarial pictures, made until the label flips, as the Grad-CAM paper's section 5.2 has them.

FGSM: Goodfellow et al., ICLR 2015, https://arxiv.org/abs/1412.6572. PGD: Madry et al., ICLR 2018,
https://arxiv.org/abs/1706.06083.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats

Slope = Callable[[np.ndarray], tuple[Floats, Floats]]
"""Pictures (N, C, H, W) float32 → scores (N, classes), and the gradient of each one's loss for its true class,
(N, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Limits of what a picture may become, in units of the network's input; each (C, 1, 1).

    Attributes:
        epsilon: most that a value may change.
        low: least value, that of black.
        high: greatest value, that of white.
    """

    epsilon: Floats
    low: Floats
    high: Floats

    def hold(self, image: Floats, picture: Floats) -> Floats:
        """What of a changed picture is within the limits around the image."""
        near = np.clip(picture, image - self.epsilon, image + self.epsilon)
        inside: Floats = np.clip(near, self.low, self.high)
        return inside


@dataclass(frozen=True, eq=False)
class Attacked:
    """Adversarial picture.

    Attributes:
        image: (C, H, W), within the bounds.
        steps: how many were taken.
        flipped: whether the highest score is another class's.
    """

    image: Floats
    steps: int
    flipped: bool


def pgd(slope: Slope, image: Floats, label: int, bounds: Bounds, steps: int, size: float) -> Attacked:
    """Steps in the direction of the gradient's sign, held within ε of the image, until the label flips.

    One step of ε is FGSM.

    Args:
        slope: see `Slope`.
        image: (C, H, W), of which the network is right.
        label: its true class.
        bounds: of what it may become.
        steps: at most so many.
        size: of a step, in ε.
    """
    picture = image
    scores, gradient = slope(picture[None].astype(np.float32))
    for taken in range(1, steps + 1):
        moved = bounds.hold(image, picture + size * bounds.epsilon * np.sign(gradient[0]))
        picture = moved.astype(np.float32)
        scores, gradient = slope(picture[None])
        if scores[0].argmax() != label:
            return Attacked(picture, taken, flipped=True)
    return Attacked(picture, steps, flipped=False)
