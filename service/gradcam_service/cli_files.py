"""Files of the command line: pictures that are read one after the other, and names for what is made of them."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from gradcam_service.errors import ModelFailed, ServiceError, Unavailable

STDIN = Path("-")
_MINUTES = 120.0
"""Seconds from which minutes are told."""
_HOURS = 7200.0
"""Likewise hours."""
_LONGEST = 255
"""Bytes of a file's name, the most that a file system takes."""
_MOST = 100
"""Bytes of a picture's or a target's name in it."""


def complain(message: str) -> None:
    """Tell of an error on one line."""
    click.echo(f"gradcam: {' '.join(message.split())}", err=True)


def foretold(passes: int, pace: float) -> str:
    """How long a picture will take, of so many forward passes of ``pace`` seconds each; empty of less than a second."""
    seconds = passes * pace
    return f"about {told_time(seconds)} a picture: {passes:,} forward passes" if seconds >= 1 else ""


def told_time(seconds: float) -> str:
    """A time that is known roughly, in words."""
    if seconds < _MINUTES:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < _HOURS else f"{seconds / 3600:.0f} hours"


def exit_code(error: ServiceError | OSError) -> int:
    """2 where the input is at fault, be it a picture, an option or a model; 1 where the machine or the network is."""
    reason = error.__cause__ if isinstance(error, ModelFailed) else error
    return 1 if isinstance(reason, OSError | Unavailable) and not isinstance(reason, ModelFailed) else 2


@dataclass
class Outcome:
    """Outcome of a command about several pictures, which goes on with the others whatever is wrong with one.

    Attributes:
        pictures: that it is about.
        as_frames: whether they are one picture's frames, oldest first, which goes by the name of the newest.
        code: to exit with.
    """

    pictures: Sequence[Path]
    as_frames: bool = False
    code: int = field(default=0, init=False)

    def readable(self) -> Iterator[tuple[Path, bytes | tuple[bytes, ...]]]:
        """Each picture that can be read, and its bytes; of frames, those of all if all can be read."""
        if not self.as_frames:
            yield from self._files()
        elif len(files := tuple(data for _, data in self._files())) == len(self.pictures):
            yield self.pictures[-1], files

    def _files(self) -> Iterator[tuple[Path, bytes]]:
        for picture in self.pictures:
            try:
                data = sys.stdin.buffer.read() if picture == STDIN else picture.read_bytes()
            except OSError as error:
                is_url = re.match(r"\w+:/", str(picture))
                said = "URLs are not fetched; curl -s URL | gradcam … - would work" if is_url else error.strerror
                self._failed(picture, said or str(error), 2)
            else:
                yield picture, data

    @contextmanager
    def of(self, picture: Path) -> Iterator[None]:
        """Do something with a picture: an error is told of, and no more comes of it."""
        try:
            yield
        except (ServiceError, OSError) as error:
            self._failed(picture, error.detail if isinstance(error, ServiceError) else str(error), exit_code(error))

    def _failed(self, picture: Path, reason: str, code: int) -> None:
        complain(f"{picture}: {reason}")
        self.code = max(self.code, code)


def a_file_each(file: Path, names: Sequence[tuple[str, int]]) -> list[Path]:
    """A file for each of these, with its name where there are several; `distinct` has what they are.

    Names get half of the room that the file's own name leaves, as others may follow.
    """
    if len(names) == 1:
        return [file]
    last = max(len(names), *(index for _, index in names))
    room = (_LONGEST - len(os.fsencode(file.name)) - len(f"--{last}")) // 2
    return [file.with_stem(f"{file.stem}-{name}") for name in distinct(names, max(0, min(room, _MOST)))]


def distinct(names: Sequence[tuple[str, int]], most: int = _MOST) -> list[str]:
    """Parts of file names that are distinct on every file system, be it blind to case or to how accents are written.

    Args:
        names: each a name and the index that distinguishes it from others of that name, if any does.
        most: bytes of a name, to which an index may be added.
    """
    cleaned = [_cut(re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name), most) for name, _ in names]
    with_index = [f"{name}-{index}" for name, (_, index) in zip(cleaned, names, strict=True)]
    with_place = [f"{name}-{place}" for place, name in enumerate(cleaned)]
    return next(form for form in (cleaned, with_index, with_place) if len(set(map(_folded, form))) == len(form))


def _cut(name: str, most: int) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= most else encoded[:most].decode(errors="ignore")  # no half letter is left


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
