"""Journal of an evaluation: what has been measured, a JSON line each, so that nothing is measured twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from gradcam_service.errors import BadRequest

FILE = "measured.jsonl"


class Entry(msgspec.Struct, frozen=True):
    """Measurements of one sample: of the picture itself, or as one protocol measured one method on it.

    Attributes:
        key: of all that decides it.
        sample: the picture's name.
        method: empty of the picture itself.
        protocol: likewise.
        rows: what the protocol made of it.
        problems: kind and detail of what can't be used.
        usable: whether the picture could be looked at.
        runtime: that the model was on.
        precision: that its feature maps were computed in.
    """

    key: str
    sample: str
    method: str = ""
    protocol: str = ""
    rows: list[dict[str, Any]] = []
    problems: list[tuple[str, str]] = []
    usable: bool = True
    runtime: str = ""
    precision: str = ""


_decode = msgspec.json.Decoder(Entry).decode


def key_of(*decisive: object) -> str:
    """A name for whatever decides an entry: equal things, equal name."""
    return hashlib.sha256(repr(decisive).encode()).hexdigest()[:24]


def as_json(value: object) -> bytes:
    """JSON of what protocols made: NumPy's numbers and arrays as any other, NaN and infinity as null."""
    return msgspec.json.encode(value, enc_hook=_plain)


class Journal:
    """Journal of what has been measured, by key; each entry is in the file before the next is begun.

    Args:
        known: entries of the file, as it was opened.
        file: to append to.
    """

    def __init__(self, known: dict[str, Entry], file: BinaryIO) -> None:
        self._known = known
        self._file = file

    @property
    def latest(self) -> Entry | None:
        """What was measured last; None where nothing has been."""
        return next(reversed(self._known.values()), None)

    def get(self, key: str) -> Entry | None:
        """What is known by this key."""
        return self._known.get(key)

    def add(self, entry: Entry) -> None:
        """Keep an entry, as it will be read again: NaN and infinity are null."""
        line = as_json(entry)
        self._file.write(line + b"\n")
        self._file.flush()
        self._known[entry.key] = _decode(line)


@contextmanager
def opened(folder: Path, *, resume: bool) -> Iterator[Journal]:
    """The journal of a report's folder, which is made where it isn't there.

    Its last line is dropped where it was cut off while it was written.

    Raises:
        BadRequest: another process writes it; it has entries, and is not to be gone on with; or a line before the last
            is none of its entries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+b") as file:
        _lock(file)
        file.seek(0)
        lines = file.readlines()
        if lines and not resume:
            raise BadRequest(f"{folder} has results already; --resume goes on with them, another -o begins anew")
        entries = [_entry(line) for line in lines]
        if None in entries[:-1]:
            bad = entries.index(None) + 1
            raise BadRequest(f"{file.name}, line {bad}, is no measure; without that line --resume would work")
        if entries and entries[-1] is None:
            file.truncate(file.tell() - len(lines[-1]))
            file.seek(0, os.SEEK_END)
        yield Journal({entry.key: entry for entry in entries if entry is not None}, file)


def _lock(file: BinaryIO) -> None:
    """Keep others from the file until it is closed, or this process ends.

    Raises:
        BadRequest: another process does that.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadRequest(
            f"another gradcam evaluate writes {file.name}; --resume works when that has ended, another -o now"
        ) from None
    except OSError:  # not every network's file system knows locks
        pass


def _entry(line: bytes) -> Entry | None:
    try:
        return _decode(line) if line.endswith(b"\n") else None
    except msgspec.DecodeError:
        return None


def _plain(value: object) -> Any:  # noqa: ANN401  JSON
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"a protocol made a {type(value).__name__}, which JSON hasn't")
