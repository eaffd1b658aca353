"""Infidelity: Yeh et al., NeurIPS 2019, https://arxiv.org/abs/1901.09392."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.infidelity import infidelity
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.method import Option


class Infidelity(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Infidelity"
    summary = (
        "How far a map's sum over a random square, times the factor that suits it best, is from what the class's logit "
        "loses when the square gets the mean colour: mean square, as a share of what a map of nothing misses (1). "
        "Squares are a quarter of the picture's side; it tells nothing of what is finer."
    )
    paper = "https://arxiv.org/abs/1901.09392"
    figures = {"infidelity": Figure("infidelity", "less")}  # noqa: RUF012  a constant
    options = {"squares": Option(default=50, description="random squares", ge=3, le=10_000)}  # noqa: RUF012

    def shared_passes(self, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the squares, which are the same for all methods and classes."""
        return options["squares"] + 1

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The infidelity for each class."""
        squares, rows = int(options["squares"]), []
        for label in case.sample.labels:
            value = case.value(label, "logit", always=("squares", squares))
            found = infidelity(value, case.image, case.saliency(label), squares, seed=case.seed)
            rows.append({"label": label, "infidelity": found})
        return rows


PROTOCOL = Infidelity()
