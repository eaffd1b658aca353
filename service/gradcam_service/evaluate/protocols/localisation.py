"""Weakly supervised localisation: Grad-CAM paper, section 4.1, after ILSVRC's localisation task."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.protocols import Figure, Need, Protocol
from gradcam_service.evaluate.sample import Box
from gradcam_service.explain.method import Option
from gradcam_service.images.boxes import bounding_box

_TOP = 5


class Localisation(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`.

    A row of errors for each picture, and one for each class whose boxes are known.
    """

    title = "Localisation"
    summary = (
        "The box around the largest connected area of at least 15 % of a map's maximum is right if its intersection "
        "over union with a box of that class is at least 0.5. Top-1 error: the model's first class is wrong, or its "
        "box is; top-5: none of the first five is right in both. Known class: the error of the true class's box, "
        "whatever the model says. Maps of one class's several objects are in one box, which is then wrong for each."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {  # noqa: RUF012  a constant
        "top1": Figure("top-1 error", "less"),
        "top5": Figure("top-5 error", "less"),
        "known": Figure("known-class error", "less"),
        "iou": Figure("IoU", "more"),
    }
    needs = frozenset({Need.BOXES})
    top = _TOP
    options = {  # noqa: RUF012  likewise
        "threshold": Option(default=0.15, description="share of the maximum that is in the box", gt=0, le=1),
        "iou": Option(default=0.5, description="intersection over union that is right", gt=0, le=1),
    }

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """Errors of the picture, and overlaps of each class."""
        known = [label for label in case.sample.labels if case.sample.boxes(label)]
        if not known:
            return []
        overlaps = {label: self._overlap(case, label, options["threshold"]) for label in known}
        right = [label in overlaps and overlaps[label] >= options["iou"] for label in case.top(_TOP)]
        picture: dict[str, Any] = {"top1": not right[0], "top5": not any(right)}
        return [picture, *({"label": k, "iou": v, "known": v < options["iou"]} for k, v in overlaps.items())]

    def _overlap(self, case: Case, label: int, threshold: float) -> float:
        found = bounding_box(np.ascontiguousarray(case.map(label), np.float32), case.prepared, threshold)
        return 0.0 if found is None else max(iou(found, box) for box in case.sample.boxes(label))


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, of which one has an area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    first, second = ((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))
    return both / (first + second - both)


PROTOCOL = Localisation()
