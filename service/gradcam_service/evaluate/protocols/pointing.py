"""Pointing game: Zhang et al., ECCV 2016, https://arxiv.org/abs/1608.00507; Grad-CAM paper, section 4.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.evaluate.protocols import Figure, Need, Of, Plot, Protocol, Summary, Tile, averages
from gradcam_service.evaluate.sample import Mask
from gradcam_service.explain.method import Option
from gradcam_service.images.geometry import PreparedImage

_TOP = 5
_SHOWN = 8


class Pointing(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`.

    A row of ``hit`` for each class that is there; and one of ``peak``, ``present`` and ``hit_if_there`` for each of the
    top-5 classes, for the stricter form.
    """

    title = "Pointing game"
    summary = (
        "Whether the strongest point of a class's map lies on an object of that class; an empty map misses. By chance: "
        "the share of the picture that these objects cover. Strict: maps of the top-5 classes; a map whose maximum is "
        "below a threshold rejects its class, which is right if that class is absent. The threshold is fitted on one "
        "half of the pictures and measured on the other, both ways round. It says nothing about all but one point."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {  # noqa: RUF012  a constant
        "hit": Figure("hits"),
        "chance": Figure("by chance", ""),
        "strict": Figure("strict, top 5"),
    }
    needs = frozenset({Need.PLACES})
    top = _TOP
    options = {  # noqa: RUF012  likewise
        "tolerance": Option(default=0, description="pixels of the original that a point may miss by", ge=0, le=1000),
    }

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """A hit or miss for each class, and what the stricter form takes."""
        tolerance, rows = options["tolerance"], []
        places = {
            label: widened(mask, tolerance)
            for label in case.sample.labels
            if (mask := case.sample.where(label, case.prepared.image_size)) is not None
        }
        points = {label: peak(case.saliency(label), case.prepared) for label in case.raw}
        for label, mask in places.items():
            rows.append({"label": label, "hit": on(points[label], mask), "chance": float(mask.mean())})
        for label in case.top(_TOP):
            present = label in case.sample.labels
            if present and label not in places:
                continue  # it is there, and no one knows where
            hit = present and on(points[label], places[label])
            rows.append({"of": label, "peak": float(case.map(label).max()), "present": present, "on_it": hit})
        return rows

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """Hits by method and class, the stricter form, and its curve over thresholds."""
        strict = [of for method in dict.fromkeys(o.method for o in measured) for of in _strict(measured, method)]
        lines = {method: _curve(measured, method) for method in dict.fromkeys(of.method for of in measured)}
        plot = Plot("Strict form by threshold", "threshold, share of the largest peak", "right decisions", lines)
        misses = [
            Tile(of.sample, f"{labels[row['label']]}, {of.method}: missed", of.method, row["label"])
            for of in measured
            for row in of.rows
            if row.get("hit") is False
        ]
        shown = misses[:: max(1, len(misses) // _SHOWN)][:_SHOWN]
        figures = averages([*measured, *strict], self.figures)
        return Summary(figures, [plot], [shown])


def peak(saliency: Floats, prepared: PreparedImage) -> tuple[float, float] | None:
    """x, y of the strongest pixel's centre in the original's pixels; None of a map that is nowhere positive.

    Of several that are equally strong the middle one, in reading order: along the picture's edge, interpolation
    repeats the outermost cell.

    Args:
        saliency: (H, W), as large as the model's input.
        prepared: what the model saw.
    """
    if not saliency.max() > 0:
        return None
    strongest = np.argwhere(saliency == saliency.max())
    row, column = strongest[len(strongest) // 2]
    height, width = saliency.shape
    region = prepared.region
    return (
        region.x0 + (column + 0.5) * (region.x1 - region.x0) / width,
        region.y0 + (row + 0.5) * (region.y1 - region.y0) / height,
    )


def on(point: tuple[float, float] | None, mask: Mask) -> bool:
    """Whether a point lies on a mask (H, W); None, and points beside the picture, don't."""
    if point is None:
        return False
    column, row = (int(np.floor(coordinate)) for coordinate in point)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


def widened(mask: Mask, by: float) -> Mask:
    """A mask and all pixels whose centres are no further than so many pixels from a centre in it."""
    if not by or not mask.any():
        return mask
    near: Mask = distance_transform_edt(~mask) <= by
    return near


def _decisions(measured: Sequence[Of], method: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """What the stricter form takes, by picture."""
    return [(of.sample, [dict(r) for r in of.rows if "present" in r]) for of in measured if of.method == method]


def _right(row: dict[str, Any], threshold: float) -> bool:
    return bool(row["on_it"]) if row["peak"] >= threshold else not row["present"]


def _thresholds(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Candidates: a hundred quantiles of the peaks, and one above all."""
    peaks = np.array([row["peak"] for row in rows] or [0.0])
    return np.append(np.unique(np.quantile(peaks, np.linspace(0, 1, 101))), np.nextafter(peaks.max(), np.inf))


def _shares(rows: Sequence[dict[str, Any]], thresholds: np.ndarray) -> np.ndarray:
    """The share of right decisions at each threshold."""
    peaks = np.array([row["peak"] for row in rows])
    kept, dropped = (np.array([_right(row, end) for row in rows]) for end in (-np.inf, np.inf))
    return np.array([np.where(peaks >= threshold, kept, dropped).mean() for threshold in thresholds])


def _strict(measured: Sequence[Of], method: str) -> list[Of]:
    """Right decisions of each picture, by the threshold that is best on the pictures of the other half."""
    pictures = _decisions(measured, method)
    found = []
    for half in (0, 1):
        others = [row for place, (_, rows) in enumerate(pictures) if place % 2 != half for row in rows]
        if not others:
            continue
        thresholds = _thresholds(others)
        best = float(thresholds[_shares(others, thresholds).argmax()])
        found += [
            Of(sample, "", method, [{"strict": _right(row, best)} for row in rows])
            for sample, rows in pictures[half::2]
        ]
    return found


def _curve(measured: Sequence[Of], method: str) -> tuple[list[float], list[float]]:
    """The share of right decisions of all pictures by threshold."""
    rows = [row for _, own in _decisions(measured, method) for row in own]
    largest = max((row["peak"] for row in rows), default=0.0)
    if not largest > 0:
        return [], []
    fractions = np.linspace(0, 1, 101)
    return fractions.tolist(), _shares(rows, fractions * largest).tolist()


PROTOCOL = Pointing()
