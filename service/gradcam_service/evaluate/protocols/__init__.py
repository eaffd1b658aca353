"""Protocols, one file each: what is measured of every sample, and what all of it says.

A protocol is declared by its module's ``PROTOCOL``. Of each sample and method it makes rows of numbers, which are kept;
of all rows, a `Summary`, which is the report's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.statistics import Estimate, estimate, mean_of
from gradcam_service.explain.method import Option
from gradcam_service.kinds import Kinds

Row: TypeAlias = Mapping[str, Any]
"""What is kept of a sample: numbers, bools, None for no number, or whatever else JSON has, by name. ``label`` is the
index of the class that it is about; figures are the bools and numbers that the protocol names in ``figures``."""


class Need(Enum):
    """Requirement of a protocol on a data set, in a report's words."""

    PLACES = "boxes or masks"
    BOXES = "boxes"
    GROUPS = "groups"


@dataclass(frozen=True)
class Figure:
    """A number of rows, averaged over all that have it.

    Attributes:
        title: in a table's head.
        better: which direction is.
    """

    title: str
    better: Literal["more", "less", ""] = "more"


@dataclass(frozen=True)
class Of:
    """What one picture had measured by one method.

    Attributes:
        sample: the picture's name.
        group: the picture's.
        method: by which it was explained.
        rows: what the protocol made of it.
    """

    sample: str
    group: str
    method: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Averages:
    """Averages of one figure of one method.

    Attributes:
        overall: over all pictures.
        class_mean: the mean of the classes' means; None where rows are of no class.
        classes: by the index of the class.
    """

    overall: Estimate
    class_mean: float | None = None
    classes: Mapping[int, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """A plot of lines.

    Attributes:
        title: above it.
        x: what is told along the x axis.
        y: along the y axis.
        lines: x and y values of each, by name.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Tile:
    """A picture of the gallery: a sample, under the map of a class where one is named.

    Attributes:
        sample: its name.
        caption: below it.
        method: of the map.
        label: index of the class; None for the picture alone.
    """

    sample: str
    caption: str
    method: str = ""
    label: int | None = None


@dataclass(frozen=True)
class Summary:
    """Summary of all rows.

    Attributes:
        figures: averages by method, then by the figure's name.
        plots: to be drawn.
        gallery: rows of tiles, to be drawn.
        notes: sentences that belong to the figures.
        tables: others, by title: a list of columns each, and rows of text or numbers.
        files: text files that the report is to have beside it, by name.
    """

    figures: Mapping[str, Mapping[str, Averages]] = field(default_factory=dict)
    plots: Sequence[Plot] = ()
    gallery: Sequence[Sequence[Tile]] = ()
    notes: Sequence[str] = ()
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str | float]]]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class Protocol(ABC):
    """Base of every protocol: one that needs nothing but maps, and whose rows are averaged.

    Attributes:
        title: in the report.
        summary: what its figures mean, and what they don't, in a sentence or two.
        paper: its address.
        figures: what of its rows is averaged, by their names there.
        needs: what it can't do without.
        top: of how many of the model's top classes it wants maps, besides those of the sample's classes.
        options: by name; numbers.
        of_pictures: whether it asks the network of pictures alone, so that models that take text, too, are beyond it.
    """

    title: str
    summary: str
    paper: str
    figures: Mapping[str, Figure] = {}
    needs: frozenset[Need] = frozenset()
    top: int = 0
    options: Mapping[str, Option] = {}
    of_pictures: bool = False

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Forward passes that each method takes on a sample besides those of its maps, and besides `shared_passes`.

        Args:
            method: whose maps are measured.
            maps: how many classes a sample has.
            cost: forward passes that a map takes, by the name of the method.
            options: all of the protocol's.
        """
        return 0.0

    def shared_passes(self, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Forward passes that a sample takes once, however many methods are measured on it: see `Case.once`.

        Args:
            maps: as in `passes`, as are the others.
            cost: forward passes that a map takes, by the name of the method.
            options: all of the protocol's.
        """
        return 0.0

    @abstractmethod
    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """What is kept of a sample: see `Row`. NaN is kept as None.

        Raises:
            ServiceError: why it can't be measured.
        """

    def summarise(self, measured: Sequence[Of], labels: Sequence[str], **options: float) -> Summary:
        """Summary of all rows.

        Args:
            measured: in the data set's order, the methods of one picture after the other.
            labels: of the model's classes.
            options: all of the protocol's.
        """
        return Summary(averages(measured, self.figures))


PROTOCOLS: Kinds[Protocol] = Kinds(__name__, "PROTOCOL")


def averages(measured: Sequence[Of], figures: Mapping[str, Figure]) -> dict[str, dict[str, Averages]]:
    """The averages of figures by method, over all rows that have them."""
    found: dict[str, dict[str, Averages]] = {}
    for method in dict.fromkeys(of.method for of in measured):
        rows = [(of.sample, row) for of in measured if of.method == method for row in of.rows]
        by_name = {name: _average([(sample, row) for sample, row in rows if name in row], name) for name in figures}
        found[method] = {name: average for name, average in by_name.items() if average is not None}
    return found


def _average(rows: Sequence[tuple[str, Row]], name: str) -> Averages | None:
    by_class: dict[int, list[tuple[str, Any]]] = defaultdict(list)
    values = [(sample, row[name]) for sample, row in rows if row[name] is not None]
    for sample, row in rows:
        if row.get("label") is not None and row[name] is not None:
            by_class[row["label"]].append((sample, row[name]))
    overall = estimate(values)
    if overall is None:
        return None
    classes = {label: of for label, own in sorted(by_class.items()) if (of := estimate(own)) is not None}
    return Averages(overall, mean_of([*classes.values()]), classes)
