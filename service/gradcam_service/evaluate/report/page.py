"""The report as one page: tables, plots as SVG, pictures as data URIs; no script, and nothing is loaded."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.errors import ServiceError
from gradcam_service.evaluate.protocols import Averages, Figure, Summary, Tile
from gradcam_service.evaluate.report.svg import intervals, lines
from gradcam_service.evaluate.runner import Plan
from gradcam_service.evaluate.sample import Problem, Sample

_SIDE = 200
"""Pixels of a picture's longest side."""
_NAMED = 200
"""Problems of each kind that the page names; results.json has all."""


def page(
    plan: Plan, described: Mapping[str, Any], summaries: Mapping[str, Summary], problems: Sequence[Problem]
) -> str:
    """The page, as HTML.

    Args:
        plan: what was measured, and the model, which draws the pictures.
        described: what was measured, as results.json has it.
        summaries: by protocol.
        problems: of the data set.
    """
    samples = {sample.name: sample for sample in plan.samples}
    labels = plan.explainer.model.card.labels
    sections = [
        {
            "name": planned.name,
            "protocol": planned.protocol,
            "options": planned.options,
            "summary": summaries[planned.name],
            "intervals": [
                (figure.title, Markup(intervals(_of_figure(summaries[planned.name], name))))
                for name, figure in planned.protocol.figures.items()
                if figure.better and _of_figure(summaries[planned.name], name)
            ],
            "plots": [(plot.title, Markup(drawn)) for plot in summaries[planned.name].plots if (drawn := lines(plot))],
            "gallery": [[_tile(plan, samples, tile) for tile in row] for row in summaries[planned.name].gallery],
            "classes": _by_class(summaries[planned.name], planned.protocol.figures, labels),
        }
        for planned in plan.protocols
    ]
    named = {kind: [p for p in problems if p.kind == kind] for kind in dict.fromkeys(p.kind for p in problems)}
    return _template().render(described=described, sections=sections, problems=named, most=_NAMED)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template() -> Template:
    return _environment().get_template("report.html.jinja")


def _of_figure(summary: Summary, name: str) -> dict[str, Averages]:
    """One figure's averages by method."""
    return {method: figures[name] for method, figures in summary.figures.items() if name in figures}


def _by_class(
    summary: Summary, figures: Mapping[str, Figure], labels: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each class and method, what its figures are: title and value of each."""
    found = []
    for method, of_method in summary.figures.items():
        for index in sorted({index for of in of_method.values() for index in of.classes}):
            cells = [
                (figures[name].title, f"{of.classes[index].mean:.3f} ({of.classes[index].values:,})")
                for name, of in of_method.items()
                if index in of.classes
            ]
            found.append((f"{method}: {labels[index]}", cells))
    return found


def _tile(plan: Plan, samples: Mapping[str, Sample], tile: Tile) -> dict[str, str]:
    """A picture as a data URI, and its caption; a caption alone where it can't be drawn."""
    local = plan.explainer.local
    try:
        data = samples[tile.sample].read()
        if tile.label is None:
            result = local.explain(data, ExplainOptions(output=["overlay"], alpha=0, max_side=_SIDE, legend=False))
        else:
            options = ExplainOptions(method=tile.method, target=[tile.label], output=["overlay"], max_side=_SIDE)
            result = local.explain(data, options)
        (explanation,) = result.explanations
        assert explanation.overlay is not None
        drawn = _jpeg(explanation.overlay.data)
    except (ServiceError, OSError) as error:
        return {"caption": f"{tile.caption} ({error})", "uri": ""}
    return {"caption": tile.caption, "uri": f"data:image/jpeg;base64,{base64.b64encode(drawn).decode()}"}


def _jpeg(data: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(file, "JPEG", quality=80)
    return file.getvalue()
