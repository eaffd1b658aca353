"""Agreement of graphs with the network that they were made of, within rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.frontier import Frontier
from gradcam_service.runtime import TOLERANCE


def check_agreement(
    what: str, found: np.ndarray, expected: np.ndarray, wobble: Callable[[], float] = lambda: 0.0
) -> None:
    """Compare what a graph answers with what the network does.

    Args:
        what: is compared, for the refusal.
        found: by the graph.
        expected: by the network.
        wobble: how far the network's own answer is from itself; asked only where that decides.

    Raises:
        UnsupportedMethod: they differ.
    """
    difference, largest = float(abs(found - expected).max()), float(abs(expected).max())
    bound = TOLERANCE * largest
    if not difference <= bound and not difference <= bound + 2 * wobble():
        raise UnsupportedMethod(
            f"{what} differ from the model's by {difference:.1e}, where the largest is {largest:.1e}; nothing is "
            "written"
        )


def unsteadiness(explained: Callable[[Frontier], np.ndarray], frontier: Frontier) -> float:
    """How far a network's own maps move when the last digits of the feature maps do.

    A gradient jumps where a ReLU's input crosses zero or another cell becomes a window's maximum, and no two
    implementations round alike. It is next to nothing at a last layer, and a few percent at a first one.
    """
    generator, features = torch.Generator().manual_seed(0), frontier.features
    step, still = 3e-5 * features.abs().max(), explained(frontier)
    noisy = (features + step * torch.randn(features.shape, generator=generator) for _ in range(8))
    return max(float(abs(explained(frontier.having(moved)) - still).max()) for moved in noisy)
