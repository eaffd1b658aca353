"""A CSV file: file,label[,x0,y0,x1,y1][,group], a line for each object."""

from __future__ import annotations

import csv
from pathlib import Path

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.sample import Box, Collected, Problem, Sample, Thing

_EDGES = ("x0", "y0", "x1", "y1")
_COLUMNS = ("file", "label", *_EDGES, "group")


class Table:
    """See `gradcam_service.evaluate.datasets.Format`. Several lines of one file are several objects of one picture."""

    described = "a .csv file of file,label[,x0,y0,x1,y1][,group], files relative to it"

    def reads(self, source: Source) -> bool:
        """Files whose name ends in .csv."""
        return source.path.suffix.lower() == ".csv" and source.path.is_file()

    def collect(self, source: Source) -> Collected:
        """Every file that is named.

        Raises:
            BadRequest: it has no columns of these names.
        """
        found, by_file, groups = Collected(), dict[str, list[Thing]](), dict[str, str]()
        for number, line in enumerate(_lines(source.path), start=2):
            name = (line.get("file") or "").strip()
            label, group = ((line.get(column) or "").strip() for column in ("label", "group"))
            if not name or not label:
                found.problems.append(Problem("line without a file or a label", name, f"line {number}"))
                continue
            if groups.setdefault(name, group) != group:
                found.problems.append(Problem("picture of two groups", name, f"line {number} says {group!r}"))
                continue
            try:
                thing = Thing(label, _box(line))
            except ValueError as error:
                found.problems.append(Problem("box that can't be read", name, f"line {number}: {error}"))
                thing = Thing(label)
            by_file.setdefault(name, []).append(thing)
        for name, things in by_file.items():
            path = source.path.parent / name
            found.samples.append(Sample(name, path.read_bytes, tuple(things), groups[name]))
        return found


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            columns = reader.fieldnames or []
            if not {"file", "label"} <= set(columns):
                raise BadRequest(f"{file} has the columns {', '.join(columns) or 'none'}; needed are {_COLUMNS[:2]}")
            if strange := sorted(set(columns) - set(_COLUMNS)):
                raise BadRequest(f"{file} has a column {strange[0]!r}; there are {', '.join(_COLUMNS)}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{file} can't be read as UTF-8 text in columns: {error}") from error


def _box(line: dict[str, str]) -> Box | None:
    texts = [(line.get(edge) or "").strip() for edge in _EDGES]
    if not any(texts):
        return None
    x0, y0, x1, y1 = map(float, texts)
    if not all(abs(edge) < 1e9 for edge in (x0, y0, x1, y1)):
        raise ValueError(f"{', '.join(texts)} are not four pixels")
    return x0, y0, x1, y1


DATASET = Table()
