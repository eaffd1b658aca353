"""Sensitivity-n: Ancona et al., ICLR 2018, https://arxiv.org/abs/1711.06104."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.sensitivity_n import sensitivity_n
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.method import Option

_SHARES = (0.01, 0.1, 0.5)
"""n, as shares of the pixels."""


class SensitivityN(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Sensitivity-n"
    summary = (
        "Pearson's r, over random sets of 1, 10 and 50 % of the pixels, of a map's sum over a set and of what the "
        "class's logit loses when the set gets the mean colour; the mean of the three. Made for maps whose values add "
        "up to the score: one that says where the object is, and not how much each pixel counts, needn't be high. "
        "Scattered pixels are noise to a network rather than a part of its picture."
    )
    paper = "https://arxiv.org/abs/1711.06104"
    figures = {"sensitivity": Figure("sensitivity-n")}  # noqa: RUF012  a constant
    options = {"subsets": Option(default=30, description="sets of each size", ge=3, le=10_000)}  # noqa: RUF012

    def shared_passes(self, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the sets, which are the same for all methods and classes."""
        return len(_SHARES) * (options["subsets"] + 1)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The correlation for each class."""
        subsets, rows = int(options["subsets"]), []
        for label in case.sample.labels:
            own, found = case.saliency(label), []
            for n in (max(1, round(share * own.size)) for share in _SHARES):
                value = case.value(label, "logit", always=("sets", n, subsets))
                found.append(sensitivity_n(value, case.image, own, n, subsets, case.seed))
            rows.append({"label": label, "sensitivity": float(np.mean(found))})
        return rows


PROTOCOL = SensitivityN()
