"""Deletion and insertion: Petsiuk et al., RISE, BMVC 2018, section 4.1, https://arxiv.org/abs/1806.07421."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.deletion import deletion, insertion
from gradcam_service.evaluate.protocols import Figure, Of, Plot, Protocol, Summary, averages
from gradcam_service.explain.method import Option


class Deletion(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each class that is there."""

    title = "Deletion and insertion"
    summary = (
        "Areas under the curve of the class's probability while the most important pixels get the mean colour "
        "(deletion: less is better), or come back into a blurred picture (insertion: more is better). Pictures with "
        "holes are none that the network was trained on: a hole may look like what was cut out of it."
    )
    paper = "https://arxiv.org/abs/1806.07421"
    figures = {"deletion": Figure("deletion", "less"), "insertion": Figure("insertion")}  # noqa: RUF012  a constant
    options = {"steps": Option(default=20, description="of each curve", ge=1, le=1000)}  # noqa: RUF012  likewise

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of two curves for each class."""
        return maps * 2 * (options["steps"] + 1)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """Both areas and curves of each class."""
        rows = []
        for label in case.sample.labels:
            given = case.value(label), case.image, case.saliency(label), int(options["steps"])
            gone, come = deletion(*given), insertion(*given)
            curves = {"gone": gone.values.round(4).tolist(), "come": come.values.round(4).tolist()}
            rows.append({"label": label, "deletion": gone.area, "insertion": come.area, **curves})
        return rows

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """The averages, and each method's mean curves."""
        plots = [
            Plot(title, "share of the pixels", "probability", _means(measured, name))
            for title, name in (("Deletion", "gone"), ("Insertion", "come"))
        ]
        return Summary(averages(measured, self.figures), plots)


def _means(measured: Sequence[Of], name: str) -> dict[str, tuple[list[float], list[float]]]:
    """The mean curve of each method."""
    found = {}
    for method in dict.fromkeys(of.method for of in measured):
        curves = [row[name] for of in measured if of.method == method for row in of.rows]
        if curves:
            values = np.mean(curves, axis=0)
            found[method] = np.linspace(0, 1, len(values)).tolist(), values.tolist()
    return found


PROTOCOL = Deletion()
