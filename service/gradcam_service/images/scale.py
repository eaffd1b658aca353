"""Scale of a map: the kinds of its values, and which of them is drawn at the end."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gradcam_service.maps import MapKind

CLIP = 0.995
"""The default share of a signed map's values that lie within its scale: a handful of pixels of a map as fine as the
input is often ten times as strong as the rest, which on their scale would be an even grey."""


def own_high(cam: NDArray[np.float32], kind: MapKind, clip: float = CLIP) -> float:
    """The value at the upper end of a map's own scale, ≥ 0.

    The maximum; of a signed map, the smallest |value| that at least ``clip`` of all |values| don't exceed, or the
    largest where that is 0.

    Args:
        cam: (h, w) or (H, W, C) float32, finite.
        kind: what the map means.
        clip: share of the values, above 0, at most 1.
    """
    if kind == "unsigned":
        return max(float(cam.max()), 0.0)
    strengths = np.abs(cam).ravel()
    rank = math.ceil(clip * strengths.size) - 1
    return float(np.partition(strengths, rank)[rank]) or float(strengths.max())


def plane(cam: NDArray[np.float32], kind: MapKind) -> NDArray[np.float32]:
    """(h, w): where it is. Of signed colours, how much in all; a map that is blind to colour repeats itself in each."""
    if cam.ndim == 2:
        return cam
    return np.ascontiguousarray(np.abs(cam).sum(axis=2) if kind == "signed_colour" else cam[:, :, 0])
