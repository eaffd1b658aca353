"""The box around what the model looked at."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gradcam_service.images.canvas import Box, upsample
from gradcam_service.images.geometry import PreparedImage, Region

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # as the contours that localisation benchmarks draw
_ROUNDING = 1e-6  # pixels; an edge this close to a whole pixel is on it


def bounding_box(cam: NDArray[np.float32], prepared: PreparedImage, threshold: float) -> Box | None:
    """The box around the largest connected area of at least ``threshold`` times the maximum.

    Sought in the map upsampled to the model's input; pixels that touch at a corner are connected.

    Args:
        cam: (h, w) float32, finite.
        prepared: what the model saw.
        threshold: share of the maximum, above 0, at most 1.

    Returns:
        (x0, y0, x1, y1) in whole pixels of the original, rounded outwards and clipped to it, x1 and y1 exclusive.
        None if the map is nowhere positive, or if all of the area is padding.
    """
    from scipy import ndimage  # 0.2 s and 17 MB, which processes need that are asked for boxes

    peak = float(cam.max())
    if not peak > 0:
        return None
    width, height = prepared.size
    heat = np.asarray(upsample(cam / np.float32(peak), Region(0, 0, width, height), (0, 0, width, height)))
    areas, _ = ndimage.label(heat >= threshold * heat.max(), structure=_EIGHT_NEIGHBOURS)
    largest = np.bincount(areas.ravel())[1:].argmax()  # area 0 is all the rest
    rows, columns = ndimage.find_objects(areas)[largest]
    return _in_original(columns, rows, prepared)


def _in_original(columns: slice, rows: slice, prepared: PreparedImage) -> Box | None:
    """Input pixels taken to the original's, or None if nothing of them lies in it."""
    x = prepared.region.x0, (prepared.region.x1 - prepared.region.x0) / prepared.size[0]
    y = prepared.region.y0, (prepared.region.y1 - prepared.region.y0) / prepared.size[1]
    x0, x1 = _span(columns, *x, prepared.image_size[0])
    y0, y1 = _span(rows, *y, prepared.image_size[1])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _span(span: slice, origin: float, scale: float, length: int) -> tuple[int, int]:
    """``span`` scaled and moved, rounded outwards, clipped to 0 … ``length``."""
    first = math.floor(origin + span.start * scale + _ROUNDING)
    last = math.ceil(origin + span.stop * scale - _ROUNDING)
    return max(first, 0), min(last, length)
