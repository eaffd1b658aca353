"""Lists and fetches the files of a repository, in a folder or at a URL that fsspec knows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.exceptions import FSTimeoutError

from gradcam_service.errors import ModelFailed, unwrapped
from gradcam_service.registry.cache import cached

_PATIENCE = 20.0
"""Seconds that a whole listing, or a text, may take. Where a network drops what is sent, the retries of s3fs and of
botocore below it take seven minutes; the poller asks again anyway, and in less says that it can't be read. A download
may take long, and nobody asks again: it is left to them."""

Stamps = Iterable[tuple[str, str]]
"""Path and stamp of each file, sorted; a file that changes has another stamp."""

_MARKS = ("size", "ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems tell of a file that is another one after a change; each knows some of them."""


class Place(Protocol):
    """A folder, wherever it is. Its text is its path or URL.

    All methods raise ModelFailed where it can't be read.
    """

    def __truediv__(self, name: str) -> Place:
        """A folder in it."""

    def stamps(self) -> Stamps:
        """All files below it."""

    def text(self, name: str) -> str:
        """The text of a file in it."""

    def local(self, stamps: Stamps) -> Path:
        """The folder on this machine, with the files that ``stamps`` names."""


def place_at(repository: str | Path) -> Place:
    """Open the place that a path or URL means."""
    return RemotePlace(str(repository)) if "://" in str(repository) else LocalPlace(Path(repository))


@dataclass(frozen=True)
class LocalPlace:
    """A folder on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> LocalPlace:
        return LocalPlace(self.path / name)

    def stamps(self) -> Stamps:
        """Stamps of size, time of change and place on the disk."""
        with _named_in_failures(self):
            if not self.path.is_dir():
                raise NotADirectoryError(20, "Not a directory" if self.path.exists() else "No such file or directory")
            return sorted(self._walk())

    def _walk(self) -> Iterator[tuple[str, str]]:
        # Volumes of Kubernetes are links to links, so links are followed.
        for folder, folders, names in os.walk(self.path, followlinks=True, onerror=_raise):
            folders[:] = [name for name in folders if not _leads_back(Path(folder, name))]
            for name in names:
                path = Path(folder, name)
                if path.is_file():  # a pipe would keep its reader waiting
                    known = path.stat()
                    stamp = f"{known.st_size}-{known.st_mtime_ns}-{known.st_ino}"
                    yield path.relative_to(self.path).as_posix(), stamp

    def text(self, name: str) -> str:
        """The text of a file in it."""
        with _named_in_failures(f"{self}/{name}"):
            return inside(self.path, name).read_text(encoding="utf-8")

    def local(self, stamps: Stamps) -> Path:
        """The folder itself: it is local already."""
        return self.path


@dataclass(frozen=True)
class RemotePlace:
    """A folder at a URL such as ``s3://bucket/models``, its files cached here by what they are."""

    url: str

    def __str__(self) -> str:
        return self.url.rstrip("/")

    def __truediv__(self, name: str) -> RemotePlace:
        return RemotePlace(f"{self}/{name}")

    def stamps(self) -> Stamps:
        """Stamps of whatever the file system tells of each file's content."""
        with _named_in_failures(self):
            system, root = self._system()
            system.invalidate_cache()
            found = system.find(root, detail=True, **_patience(system))
            if not found:
                raise FileNotFoundError(2, "there is nothing")
            return sorted((path.removeprefix(root).removeprefix("/"), _stamp(known)) for path, known in found.items())

    def text(self, name: str) -> str:
        """The text of a file in it."""
        with _named_in_failures(f"{self}/{name}"):
            system, root = self._system()
            content: bytes = system.cat_file(f"{root}/{name}", **_patience(system))
            return content.decode("utf-8")

    def local(self, stamps: Stamps) -> Path:
        """A folder in the cache, named by the digest of the URL and all stamps; fetched once."""
        digest = hashlib.sha256(repr((self.url, sorted(stamps))).encode()).hexdigest()

        def fill(folder: Path) -> None:
            system, root = self._system()
            for name, _ in stamps:
                path = inside(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(f"{root}/{name}", str(path))

        with _named_in_failures(self):
            return cached("models", digest, fill)

    def _system(self) -> tuple[Any, str]:
        system, root = fsspec.url_to_fs(self.url)
        return system, root.rstrip("/")


def inside(folder: Path, name: str) -> Path:
    """Resolve a name in a folder, and refuse one that leads out of it; a volume of Kubernetes is links within it.

    Raises:
        ModelFailed: it leads out of the folder.
        OSError: its links lead in a circle; likewise RuntimeError, in Python before 3.13.
        ValueError: no path has such a name.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFailed(f"{name} leads out of {folder}; only files in that folder are read, so put it there")
    return path


def _leads_back(path: Path) -> bool:
    """Whether a folder is a link to one that was walked through to get there."""
    return path.is_symlink() and path.resolve() in (parent.resolve() for parent in path.absolute().parents)


def _stamp(known: dict[str, Any]) -> str:
    return "-".join(str(known[mark]) for mark in _MARKS if known.get(mark) is not None)


def _patience(system: object) -> dict[str, float]:
    """For a call of a file system at a URL; those that don't run on fsspec's event loop can't be interrupted."""
    return {"timeout": _PATIENCE} if isinstance(system, AsyncFileSystem) else {}


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _named_in_failures(what: object) -> Iterator[None]:
    """Have whatever goes wrong say where.

    Raises:
        ModelFailed: what went wrong.
    """
    try:
        yield
    except ModelFailed:
        raise
    except UnicodeDecodeError as error:
        raise ModelFailed(f"{what} is not UTF-8: {error}") from error
    except FSTimeoutError as error:
        raise ModelFailed(f"{what} can't be read: no complete answer in time") from error
    except OSError as error:
        raise ModelFailed(f"{what} can't be read: {error.strerror or error}") from error
    except Exception as error:  # file systems raise what their libraries do: no credentials, no package, no such bucket
        raise ModelFailed(f"{what} can't be read: {unwrapped(error)}") from error
