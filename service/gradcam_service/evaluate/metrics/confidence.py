"""Confidence in what a map shows: average drop, increase in confidence and average gain.

The first two: Chattopadhay et al., Grad-CAM++, WACV 2018, section 5.1, https://arxiv.org/abs/1710.11063. Gain: Zhang et
al., Opti-CAM, 2024, section 4, https://arxiv.org/abs/2301.07002.
"""

from __future__ import annotations

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats


def shown(image: Floats, saliency: Floats) -> Floats:
    """The picture multiplied by its map, scaled to 0–1: what the map leaves out has the mean colour.

    Args:
        image: (C, H, W).
        saliency: (H, W); a constant map shows all of the picture.
    """
    low, high = saliency.min(), saliency.max()
    weights = (saliency - low) / (high - low) if high > low else np.ones_like(saliency)
    visible: Floats = image * weights
    return visible


def drop(whole: Floats, seen: Floats) -> Floats:
    """max(0, Y − O) / Y: the share of each picture's confidence that is lost; less is better.

    Args:
        whole: (N,), Y, the probability of the class in the picture, above 0.
        seen: (N,), O, in what the map shows of it.
    """
    lost: Floats = np.maximum(0, whole - seen) / whole
    return lost


def increase(whole: Floats, seen: Floats) -> Floats:
    """1 for each picture that the network is surer of where it sees but what the map shows, else 0; more is better."""
    return (seen > whole).astype(np.float64)


def gain(whole: Floats, seen: Floats) -> Floats:
    """max(0, O − Y) / (1 − Y): the share of what each picture's confidence lacked that is won; more is better.

    A map that shows everything loses nothing, by `drop`, but wins nothing either.
    """
    lacked = 1 - whole
    return np.divide(np.maximum(0, seen - whole), lacked, out=np.zeros_like(lacked, np.float64), where=lacked > 0)
