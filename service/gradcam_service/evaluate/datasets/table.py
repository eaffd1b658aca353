"""A CSV file: file,label[,x0,y0,x1,y1][,group][,question], a line for each object."""

from __future__ import annotations

import csv
from pathlib import Path

from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.sample import Box, Collected, Problem, Sample, Thing

_EDGES = ("x0", "y0", "x1", "y1")
_COLUMNS = ("file", "label", *_EDGES, "group", "question")


class Table:
    """See `gradcam_service.evaluate.datasets.Format`.

    Several lines of one file are several objects of one picture; of another question, a sample of their own.
    """

    described = "a .csv file of file,label[,x0,y0,x1,y1][,group][,question], files relative to it"

    def reads(self, source: Source) -> bool:
        """Files whose name ends in .csv."""
        return source.path.suffix.lower() == ".csv" and source.path.is_file()

    def collect(self, source: Source) -> Collected:
        """Every file that is named.

        Raises:
            BadRequest: it has no columns of these names.
        """
        found, groups = Collected(), dict[str, str]()
        asked: dict[tuple[str, str], list[Thing]] = {}
        for number, line in enumerate(_lines(source.path), start=2):
            name = (line.get("file") or "").strip()
            label, group, question = ((line.get(column) or "").strip() for column in ("label", "group", "question"))
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
            asked.setdefault((name, question), []).append(thing)
        for (name, question), things in asked.items():
            read = (source.path.parent / name).read_bytes
            called = f"{name}: {question}" if question else name
            found.samples.append(Sample(called, read, tuple(things), groups[name], question))
        return found


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text)
            columns = reader.fieldnames or []
            if not {"file", "label"} <= set(columns):
                raise BadRequest(f"{file} has the columns {', '.join(columns) or 'none'}; needed are file and label")
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
