"""Findings: what a report tells, whatever it was found by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gradcam_service.evaluate.protocols import Figure, Summary, Tile
from gradcam_service.evaluate.sample import Problem


class Subject(Protocol):
    """Subject of a report: what was measured or asked."""

    @property
    def title(self) -> str:
        """Heads its section."""

    @property
    def summary(self) -> str:
        """What its figures mean, and what they don't."""

    @property
    def paper(self) -> str:
        """Address of the paper."""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """What is averaged, by name."""


@dataclass(frozen=True, eq=False)
class Section:
    """Part of a report.

    Attributes:
        name: of the protocol or study.
        subject: the protocol or study.
        options: all of them.
        summary: what was found.
    """

    name: str
    subject: Subject
    options: Mapping[str, int | float]
    summary: Summary


@dataclass(frozen=True, eq=False)
class Findings:
    """Findings of a report.

    Attributes:
        title: of the report.
        said: what the figures come from, a paragraph each.
        described: the same as JSON has it.
        labels: of classes, by their index in figures.
        sections: of the report.
        problems: of what was given, and of what couldn't be measured.
        draw: a tile as a data URI. Raises ServiceError and OSError where it can't be drawn.
    """

    title: str
    said: Sequence[str]
    described: Mapping[str, Any]
    labels: Sequence[str]
    sections: Sequence[Section]
    problems: Sequence[Problem]
    draw: Callable[[Tile], str]

    @property
    def counts(self) -> dict[str, int]:
        """How many problems there are of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))
