"""Report of an evaluation: results.json, results.csv and report.html, which needs nothing but itself."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from gradcam_service import __version__
from gradcam_service.evaluate.protocols import Of, Summary
from gradcam_service.evaluate.report.page import page
from gradcam_service.evaluate.runner import Plan, Planned
from gradcam_service.evaluate.sample import Problem

_COLUMNS = ("protocol", "method", "figure", "class", "mean", "low", "high", "values", "pictures")


@dataclass(frozen=True, eq=False)
class Findings:
    """What an evaluation found.

    Attributes:
        data: as the data set was named.
        plan: what was measured.
        usable: pictures.
        summaries: by protocol.
        problems: of the data set and of what couldn't be measured.
    """

    data: str
    plan: Plan
    usable: int
    summaries: Mapping[str, Summary]
    problems: Sequence[Problem]

    @property
    def counts(self) -> dict[str, int]:
        """How many problems there are of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))


def findings(
    data: str, plan: Plan, measured: Mapping[str, Sequence[Of]], usable: int, problems: Sequence[Problem]
) -> Findings:
    """What all that was measured says, by protocol."""
    labels = plan.explainer.model.card.labels
    summaries = {
        planned.name: planned.protocol.summarise(measured[planned.name], labels, **planned.options)
        for planned in plan.protocols
    }
    return Findings(data, plan, usable, summaries, sorted(set(problems)))


def write(folder: Path, found: Findings) -> list[str]:
    """Write the report into a folder that is there.

    Returns:
        What to say of it, a line each.
    """
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(_results(found))) + b"\n")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(_rows(found))
    for summary in found.summaries.values():
        for name, text in summary.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    shown = _described(found)
    (folder / "report.html").write_text(page(found.plan, shown, found.summaries, found.problems), encoding="utf-8")
    problems = ", ".join(f"{count:,} × {kind}" for kind, count in found.counts.items())
    return [*_lines(found), *([f"left out or changed: {problems}"] if problems else []), f"→ {folder / 'report.html'}"]


def _described(found: Findings) -> dict[str, Any]:
    """What was measured, and on what."""
    plan, card = found.plan, found.plan.explainer.model.card
    return {
        "data": found.data,
        "pictures": {"chosen": len(plan.samples), "usable": found.usable},
        "problems": found.counts,
        "model": {
            "name": plan.explainer.local.key,
            "digest": card.digest,
            "runtime": card.runtime,
            "precision": card.precision,
            "layer": card.layer,
        },
        "methods": list(plan.methods),
        "seed": plan.seed,
        "version": __version__,
    }


def _results(found: Findings) -> dict[str, Any]:
    protocols = {planned.name: _protocol(planned, found) for planned in found.plan.protocols}
    details = [asdict(problem) for problem in found.problems]
    return {**_described(found), "protocols": protocols, "problem_details": details}


def _protocol(planned: Planned, found: Findings) -> dict[str, Any]:
    summary, labels = found.summaries[planned.name], found.plan.explainer.model.card.labels
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
        "options": planned.options,
        "methods": methods,
        "plots": [asdict(plot) for plot in summary.plots],
        "tables": {title: {"columns": head, "rows": rows} for title, (head, rows) in summary.tables.items()},
        "notes": list(summary.notes),
        "files": sorted(summary.files),
    }


def _rows(found: Findings) -> Iterator[dict[str, Any]]:
    """One of each figure, and one of each class."""
    labels = found.plan.explainer.model.card.labels
    for protocol, summary in found.summaries.items():
        for method, figures in summary.figures.items():
            for name, of in figures.items():
                own = {"protocol": protocol, "method": method, "figure": name}
                yield {**own, **asdict(of.overall)}
                yield from ({**own, "class": labels[index], **asdict(each)} for index, each in of.classes.items())


def _lines(found: Findings) -> Iterator[str]:
    """A line for each figure, as a terminal shows it."""
    for planned in found.plan.protocols:
        for method, figures in found.summaries[planned.name].figures.items():
            for name, of in figures.items():
                title, all_of_it = planned.protocol.figures[name].title, of.overall
                yield (
                    f"{planned.name:14} {method:22} {title:28} {all_of_it.mean:8.4f}  "
                    f"[{all_of_it.low:.4f}, {all_of_it.high:.4f}]  n={all_of_it.values:,}"
                )
