"""Verdict of a sanity check: does a method look at the weights at all?

A map that stays as it was while the network's weights are made random, layer by layer from the scores to the image,
says something about the picture, and nothing about the network: Adebayo et al., NeurIPS 2018,
https://arxiv.org/abs/1810.03292.
"""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats

UNCHANGED = 0.9
"""Similarity above which a map has not changed for all that one would conclude from it."""


def ignores_weights(similarities: Floats) -> bool:
    """Whether a method's maps stay although all of the network is random.

    Args:
        similarities: (stages, N) of N pictures' maps to those of the trained network, −1 to 1; the network of the last
            stage is random throughout. NaN where a map is empty, which is a change, too.
    """
    return float(np.nan_to_num(np.asarray(similarities)[-1], nan=0.0).mean()) > UNCHANGED
