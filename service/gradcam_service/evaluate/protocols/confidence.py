"""Confidence in what a map shows: average drop, increase in confidence, average gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.confidence import drop, gain, increase, shown
from gradcam_service.evaluate.protocols import Figure, Protocol


class Confidence(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Average drop, increase in confidence, average gain"
    summary = (
        "The picture is multiplied by its map, scaled to 0–1, and the class's probability compared. Drop: the share of "
        "it that is lost. Increase: how often it rises. Gain: the share of what it lacked that is won. A map that "
        "shows everything loses nothing, so that drop alone rewards large maps."
    )
    paper = "https://arxiv.org/abs/1710.11063"
    figures = {  # noqa: RUF012  a constant
        "drop": Figure("average drop", "less"),
        "increase": Figure("increase in confidence"),
        "gain": Figure("average gain"),
    }

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """One for each class."""
        return maps

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """All three for each class."""
        rows = []
        for label in case.sample.labels:
            whole = np.maximum(case.probabilities[label], np.finfo(np.float64).tiny)[None]
            seen = case.value(label)(shown(case.image, case.saliency(label))[None].astype(np.float32))
            numbers = {"drop": float(drop(whole, seen)[0]), "gain": float(gain(whole, seen)[0])}
            rows.append({"label": label, "increase": bool(increase(whole, seen)[0]), **numbers})
        return rows


PROTOCOL = Confidence()
