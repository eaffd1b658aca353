"""The report as one page: tables, plots as SVG, pictures as data URIs; no script, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from gradcam_service.errors import ServiceError
from gradcam_service.evaluate.protocols import Averages, Figure, Summary, Tile
from gradcam_service.evaluate.report.findings import Findings, Section
from gradcam_service.evaluate.report.svg import intervals, lines
from gradcam_service.evaluate.sample import Problem

_NAMED = 200
"""Problems of each kind that the page names; results.json has all."""


def page(found: Findings) -> str:
    """The page, as HTML."""
    problems: dict[str, list[Problem]] = {}
    for problem in found.problems:
        problems.setdefault(problem.kind, []).append(problem)
    sections = [_shown(section, found) for section in found.sections]
    return _template().render(title=found.title, said=found.said, sections=sections, problems=problems, most=_NAMED)


def _shown(section: Section, found: Findings) -> dict[str, Any]:
    """A section, as the template takes it."""
    summary, figures = section.summary, section.subject.figures
    return {
        "name": section.name,
        "subject": section.subject,
        "options": section.options,
        "summary": summary,
        "intervals": [
            (figure.title, Markup(intervals(_of_figure(summary, name))))
            for name, figure in figures.items()
            if figure.better and _of_figure(summary, name)
        ],
        "plots": [(plot.title, Markup(drawn)) for plot in summary.plots if (drawn := lines(plot))],
        "gallery": [[_tile(found.draw, tile) for tile in row] for row in summary.gallery],
        "classes": _by_class(summary, figures, found.labels),
    }


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


def _tile(draw: Callable[[Tile], str], tile: Tile) -> dict[str, str]:
    """A picture as a data URI, and its caption; a caption alone where it can't be drawn."""
    try:
        return {"caption": tile.caption, "uri": draw(tile)}
    except (ServiceError, OSError) as error:
        return {"caption": f"{tile.caption} ({error})", "uri": ""}
