"""Class discrimination: do the maps of two classes of one picture differ, each on its own object?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.discrimination import discriminated
from gradcam_service.evaluate.protocols import Figure, Need, Protocol
from gradcam_service.explain.quality import rank_correlation


class Discrimination(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`.

    A row for each class of a picture in which the places of at least two are known, and one for each pair of them.
    """

    title = "Class discrimination"
    summary = (
        "Pictures of several classes: whether a class's map is denser on its own object than on every other's (by "
        "chance: one of so many), and Spearman's ρ of the maps of two classes, which a method that doesn't know "
        "classes apart has at 1. Places that objects share count for neither."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {  # noqa: RUF012  a constant
        "own": Figure("on its own object"),
        "chance": Figure("by chance", ""),
        "alike": Figure("ρ of two classes", "less"),
    }
    needs = frozenset({Need.PLACES})

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """Whether each map is on its own object, and how alike two are."""
        places = {label: where for label in case.sample.labels if (where := case.where(label)) is not None}
        alone = np.sum([*places.values()], axis=0) == 1
        own = {label: where & alone for label, where in places.items() if (where & alone).any()}
        if len(own) < 2:
            return []
        maps = {label: case.saliency(label) for label in own}
        right = discriminated(np.stack([*maps.values()]), np.stack([*own.values()]))
        rows: list[dict[str, Any]] = [
            {"label": label, "own": bool(of), "chance": 1 / len(own)} for label, of in zip(own, right, strict=True)
        ]
        return rows + [{"alike": rank_correlation(maps[a], maps[b])} for a, b in combinations(maps, 2)]


PROTOCOL = Discrimination()
