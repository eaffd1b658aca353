"""ROAD, remove and debias: Rong et al., ICML 2022, https://arxiv.org/abs/2202.00449."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.road import FRACTIONS, road
from gradcam_service.evaluate.protocols import Figure, Protocol


class Road(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "ROAD"
    summary = (
        "The class's mean probability when 10 to 90 % of the pixels, the most (less is better) or the least important "
        "first (more is better), are replaced by what their neighbours let expect; combined: half of the difference. "
        "The place of what was removed can hardly be seen, unlike in deletion; smooth regions are hardly changed at "
        "all, so that little can be learnt of them."
    )
    paper = "https://arxiv.org/abs/2202.00449"
    figures = {  # noqa: RUF012  a constant
        "most": Figure("most important removed", "less"),
        "least": Figure("least important removed"),
        "combined": Figure("combined"),
    }

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the pictures scored."""
        return maps * 2 * len(FRACTIONS)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """Both means of each class."""
        rows = []
        for label in case.sample.labels:
            most, least = road(case.value(label), case.image, case.saliency(label), seed=case.seed)
            rows.append({"label": label, "most": most, "least": least, "combined": (least - most) / 2})
        return rows


PROTOCOL = Road()
