"""Report of an evaluation or a study: results.json, results.csv and report.html, which needs nothing but itself."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from gradcam_service.evaluate.journal import as_json
from gradcam_service.evaluate.report.findings import Findings, Section
from gradcam_service.evaluate.report.page import page

_COLUMNS = ("protocol", "method", "figure", "class", "mean", "low", "high", "values", "pictures")


def write(folder: Path, found: Findings) -> list[str]:
    """Write the report into a folder that is there.

    Returns:
        What to say of it, a line each.
    """
    (folder / "results.json").write_bytes(msgspec.json.format(as_json(_results(found))) + b"\n")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(_rows(found))
    for section in found.sections:
        for name, text in section.summary.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(page(found), encoding="utf-8")
    problems = ", ".join(f"{count:,} × {kind}" for kind, count in found.counts.items())
    return [*_lines(found), *([f"left out or changed: {problems}"] if problems else []), f"→ {folder / 'report.html'}"]


def _results(found: Findings) -> dict[str, Any]:
    protocols = {section.name: _section(section, found.labels) for section in found.sections}
    details = [asdict(problem) for problem in found.problems]
    return {**found.described, "problems": found.counts, "protocols": protocols, "problem_details": details}


def _section(section: Section, labels: Sequence[str]) -> dict[str, Any]:
    summary = section.summary
    methods = {
        method: {
            name: {
                **asdict(of.overall),
                "class_mean": of.class_mean,
                "classes": {labels[index]: asdict(each) for index, each in of.classes.items()},
            }
            for name, of in figures.items()
        }
        for method, figures in summary.figures.items()
    }
    return {
        "options": section.options,
        "methods": methods,
        "plots": [asdict(plot) for plot in summary.plots],
        "tables": {title: {"columns": head, "rows": rows} for title, (head, rows) in summary.tables.items()},
        "notes": list(summary.notes),
        "files": sorted(summary.files),
    }


def _rows(found: Findings) -> Iterator[dict[str, Any]]:
    """One of each figure, and one of each class."""
    labels = found.labels
    for section in found.sections:
        for method, figures in section.summary.figures.items():
            for name, of in figures.items():
                own = {"protocol": section.name, "method": method, "figure": name}
                yield {**own, **asdict(of.overall)}
                yield from ({**own, "class": labels[index], **asdict(each)} for index, each in of.classes.items())


def _lines(found: Findings) -> Iterator[str]:
    """A line for each figure, as a terminal shows it."""
    for section in found.sections:
        for method, figures in section.summary.figures.items():
            for name, of in figures.items():
                title, all_of_it = section.subject.figures[name].title, of.overall
                yield (
                    f"{section.name:14} {method:22} {title:28} {all_of_it.mean:8.4f}  "
                    f"[{all_of_it.low:.4f}, {all_of_it.high:.4f}]  n={all_of_it.values:,}"
                )
