"""Faithfulness by occlusion: Grad-CAM paper, section 6.2."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.evaluate.metrics.rank_correlation import rank_correlation
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.method import Option

_KEPT = 256
"""Maps; more than a batch of pictures has classes, each of which every method is compared with."""


class Faithfulness(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Faithfulness: rank correlation with occlusion"
    summary = (
        "Spearman's ρ over square patches of a map and of what the class's logit loses where the picture is covered. "
        "A map that is the same everywhere ranks nothing and doesn't count. It doesn't tell whether the network looks "
        "at the object, and what is covered by grey may be taken for something else. The cost is counted for each "
        "method, though all are compared with the same map."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {"correlation": Figure("ρ with occlusion")}  # noqa: RUF012  a constant
    options = {"patch": Option(default=16, description="side of a patch, pixels of the input", ge=1)}  # noqa: RUF012

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the other maps."""
        return maps * cost("occlusion")

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The correlation for each class."""
        patch = int(options["patch"])
        return [
            {
                "label": label,
                "correlation": rank_correlation(case.saliency(label), _occlusion(_Key(case, label)), patch),
            }
            for label in case.sample.labels
        ]


class _Key:
    """A class of a picture that has been prepared, whichever method it is explained by."""

    def __init__(self, case: Case, label: int) -> None:
        self.case = case
        self.label = label
        self._same = case.asked.model.network, case.image.tobytes(), label

    def __hash__(self) -> int:
        return hash(self._same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._same == other._same


@lru_cache(_KEPT)
def _occlusion(of: _Key) -> Floats:
    found: Floats = of.case.explain(of.case.image[None], of.label, "occlusion")[0]
    return found


PROTOCOL = Faithfulness()
