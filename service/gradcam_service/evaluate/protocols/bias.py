"""Bias of a data set: Grad-CAM paper, section 5.3. Does the model look elsewhere in one group of pictures?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.bias import LEVEL, Difference, average_maps, differences, shares
from gradcam_service.evaluate.protocols import Figure, Need, Of, Protocol, Summary, averages
from gradcam_service.explain.method import Option

_FEWEST = 5
"""Pictures of a group of which anything is said."""
_FINE = 14
"""Cells along a side of the average maps."""


class Bias(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each picture, of its most probable class."""

    title = "Bias by group"
    summary = (
        "Where the mass of the map of a picture's class lies, in cells of a grid, by group: each group against all "
        "others, with bootstrap intervals. A difference is named if chance would show so large a one, anywhere, in 5 % "
        "of data sets at most. What lies elsewhere in the pictures themselves lies elsewhere in the maps: a difference "
        "is a reason to look, no proof."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {"empty": Figure("empty maps", "")}  # noqa: RUF012  a constant
    needs = frozenset({Need.GROUPS})
    options = {"cells": Option(default=3, description="of the grid along a side", ge=2, le=_FINE)}  # noqa: RUF012

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """How the mass is spread, coarsely and finely."""
        label = max(case.sample.labels, key=lambda one: case.predicted[one])
        saliency = case.saliency(label)[None]
        coarse, fine = (shares(saliency, int(cells))[0] for cells in (options["cells"], _FINE))
        return [{"empty": not coarse.any(), "cells": coarse.tolist(), "map": fine.round(6).tolist()}]

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """Each method's differences, those that were found, and the average map of every group."""
        tables: dict[str, Any] = {}
        notes, files = [], {}
        for method in dict.fromkeys(of.method for of in measured):
            known = [of for of in measured if of.method == method and of.group and of.rows and not of.rows[0]["empty"]]
            counts = Counter(of.group for of in known)
            enough = [of for of in known if counts[of.group] >= _FEWEST]
            groups = [of.group for of in enough]
            if len(set(groups)) < 2:
                notes.append(f"{method}: there aren't two groups of {_FEWEST} pictures whose maps say anything")
                continue
            found = differences(np.array([of.rows[0]["cells"] for of in enough]), groups)
            cells = int(options["cells"])
            columns = ["group", "cell", "mean", "difference", "from", "to", "p"]
            tables[f"{method}: share of the map's mass"] = columns, [_row(each, cells) for each in found]
            notes += [_said(method, each, cells) for each in found if each.found and each.difference > 0]
            fine = np.array([of.rows[0]["map"] for of in enough]).reshape(-1, _FINE, _FINE)
            files[f"bias-{method}.svg"] = _drawn(average_maps(fine, groups))
        return Summary(averages(measured, self.figures), notes=notes, tables=tables, files=files)


def _place(region: int, cells: int) -> str:
    return f"row {region // cells + 1}, column {region % cells + 1}"


def _row(of: Difference, cells: int) -> list[str | float]:
    return [of.group, _place(of.region, cells), of.mean, of.difference, of.low, of.high, of.p]


def _said(method: str, of: Difference, cells: int) -> str:
    return (
        f"{method}: in group {of.group!r} more of the map lies in {_place(of.region, cells)} of {cells}×{cells}: "
        f"{of.mean:.3f}, {of.difference:+.3f} [{of.low:+.3f}, {of.high:+.3f}] against the others; "
        f"p = {of.p:.4f}, level {LEVEL}"
    )


def _drawn(maps: dict[str, Any]) -> str:
    """The average maps beside each other, on one scale, as SVG."""
    from html import escape

    side, gap, strongest = 10 * _FINE, 20, max(own.max() for own in maps.values())
    parts = []
    for place, (group, own) in enumerate(maps.items()):
        left = place * (side + gap)
        parts.append(f'<text x="{left}" y="14" font-family="sans-serif" font-size="12">{escape(group)}</text>')
        parts += [
            f'<rect x="{left + 10 * x}" y="{20 + 10 * y}" width="10" height="10" '
            f'fill="rgb({round(255 * v)},{round(60 * v)},{round(120 * (1 - v))})"/>'
            for (y, x), v in np.ndenumerate(own / strongest)
        ]
    width, height = len(maps) * (side + gap), side + 20
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
    return "\n".join([opened, *parts, "</svg>"])


PROTOCOL = Bias()
