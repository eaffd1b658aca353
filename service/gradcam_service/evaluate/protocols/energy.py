"""Energy-based pointing game: Wang et al., Score-CAM, CVPRW 2020, section 4.3, https://arxiv.org/abs/1910.01279."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.protocols import Figure, Need, Protocol


class Energy(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class whose place is known."""

    title = "Energy"
    summary = (
        "The share of a map's positive mass that lies on the objects of its class; an empty map has none there. By "
        "chance: the share of what the model sees that they cover. A map that is as coarse as a small object can't "
        "have all of its mass on it, however right it is."
    )
    paper = "https://arxiv.org/abs/1910.01279"
    figures = {"inside": Figure("inside"), "chance": Figure("by chance", "")}  # noqa: RUF012  a constant
    needs = frozenset({Need.PLACES})

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The share of each class's mass inside."""
        rows = []
        for label in case.sample.labels:
            if (mask := case.where(label)) is None:
                continue
            mass = np.maximum(case.saliency(label).astype(np.float64), 0)
            inside = float(mass[mask].sum() / mass.sum()) if mass.any() else 0.0
            rows.append({"label": label, "inside": inside, "chance": float(mask.mean())})
        return rows


PROTOCOL = Energy()
