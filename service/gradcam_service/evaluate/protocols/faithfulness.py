"""Faithfulness by occlusion: Grad-CAM paper, section 6.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.method import Option
from gradcam_service.explain.quality import rank_correlation


class Faithfulness(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Faithfulness: rank correlation with occlusion"
    summary = (
        "Spearman's ρ over square patches of a map and of what the class's logit loses where the picture is covered. "
        "A map that is the same everywhere ranks nothing and doesn't count. It doesn't tell whether the network looks "
        "at the object, and what is covered by grey may be taken for something else."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {"correlation": Figure("ρ with occlusion")}  # noqa: RUF012  a constant
    options = {"patch": Option(default=16, description="side of a patch, pixels of the input", ge=1)}  # noqa: RUF012

    def shared_passes(self, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the other map of each class."""
        return maps * cost("occlusion")

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The correlation for each class."""
        rows = []
        for label in case.sample.labels:

            def occlusion(label: int = label) -> Floats:
                return case.explain(case.image[None], label, "occlusion")

            (other,) = case.once(("occlusion", label), occlusion)
            found = rank_correlation(case.saliency(label), other, int(options["patch"]))
            rows.append({"label": label, "correlation": found})
        return rows


PROTOCOL = Faithfulness()
