"""Formats of data sets, one file each: pictures, and what is where in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gradcam_service.errors import BadRequest, UnknownTarget
from gradcam_service.evaluate.sample import Collected, Problem
from gradcam_service.kinds import Kinds
from gradcam_service.registry.class_names import class_index

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".dcm", ".npy", ".heic"})
"""Suffixes of files in folders that are taken for pictures; of others it is said that they are none."""


@dataclass(frozen=True)
class Source:
    """Place of a data set, as it was named.

    Attributes:
        data: a folder, a file, or a word.
        boxes: folder of annotations that lie elsewhere.
        limit: most samples that are wanted; None for all.
    """

    data: str
    boxes: Path | None = None
    limit: int | None = None

    @property
    def path(self) -> Path:
        """Of the folder or file."""
        return Path(self.data)


class Format(Protocol):
    """A format of data sets."""

    @property
    def described(self) -> str:
        """What one looks like, in a few words, for whoever has none of any format."""

    def reads(self, source: Source) -> bool:
        """Whether it is of this format, be it right or wrong."""

    def collect(self, source: Source) -> Collected:
        """All samples, their classes as the data set calls them, and what is wrong with others.

        Raises:
            BadRequest: nothing of it can be read.
        """


DATASETS: Kinds[Format] = Kinds(__name__, "DATASET")


def collect(source: Source, labels: Sequence[str], classes: Sequence[str] = ()) -> Collected:
    """All samples of a data set that are of a class that the model knows, and what is wrong with others.

    Args:
        source: where it is.
        labels: of the model's classes.
        classes: what the data set calls them, in the same order, where it has names of its own.

    Raises:
        BadRequest: it is of no known format, or has no sample that is of any use; saying what would work.
    """
    formats = "; ".join(kind.described for kind in DATASETS.values())
    kind = next((kind for kind in DATASETS.values() if kind.reads(source)), None)
    if kind is None:
        missing = "there is no such file or folder" if not source.path.exists() else "it is of no known format"
        raise BadRequest(f"data set {source.data!r}: {missing}; there are: {formats}")
    found = kind.collect(source)
    names = _Names(labels, classes)
    known = Collected([], [*found.problems])
    for sample in found.samples:
        things = []
        for thing in sample.things:
            try:
                things.append(replace(thing, index=names.index(thing.label)))
            except UnknownTarget as error:
                known.problems.append(Problem("label that the model doesn't know", sample.name, error.detail))
        if things:
            known.samples.append(replace(sample, things=tuple(things)))
        elif not sample.things:
            known.problems.append(Problem("picture without a label", sample.name))
    if not known.samples:
        said = f"{found.problems[0].detail or found.problems[0].kind}" if found.problems else ""
        said = known.problems[0].detail or said if known.problems else said
        hint = ". --classes tells what a data set calls the classes" if found.samples else ""
        raise BadRequest(
            f"data set {source.data!r} has nothing that can be evaluated ({len(found.samples)} labelled pictures"
            f"{'; ' + said if said else ''}); there are: {formats}{hint}"
        )
    return known


def classes_of(file: Path, count: int) -> list[str]:
    """What a data set calls the model's classes: the first word of each line of a file, as ImageNet's synset mapping.

    Raises:
        BadRequest: it can't be read, or has not a line for each class.
    """
    try:
        names = [line.split()[0] for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--classes {file} can't be read: {error}") from error
    if len(names) != count:
        raise BadRequest(f"--classes {file} has {len(names)} lines; the model has {count} classes, a line for each")
    return names


class _Names:
    """Names of classes: the data set's own, or else the model's."""

    def __init__(self, labels: Sequence[str], classes: Sequence[str]) -> None:
        self._labels = labels
        self._own: Mapping[str, int] = {name: index for index, name in enumerate(classes)}
        self._known: dict[str, int] = {}

    def index(self, written: str) -> int:
        """The class that is meant.

        Raises:
            UnknownTarget: the model has none of that name.
        """
        if written not in self._known:
            own = self._own.get(written)
            self._known[written] = class_index(written, self._labels) if own is None else own
        return self._known[written]
