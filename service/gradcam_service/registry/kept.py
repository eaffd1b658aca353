"""Store of what took long to make of a model, for the next start, found by all that decides it. Torch-free.

It is an item of `gradcam_service.registry.cache`: files and their digests, which are checked before a byte of them is
interpreted. Whatever is wrong with one, or with the disk, costs the time of making it again, and one line in the log.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import gradcam_service
from gradcam_service.errors import ModelFailed
from gradcam_service.kinds import plugins_digest
from gradcam_service.registry.cache import cached, discard, held, holding, opened
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.places import LocalPlace, inside
from gradcam_service.registry.sources import SOURCES

log = logging.getLogger(__name__)

COMPILED = "compiled"
"""Folder in that of a version that holds its compiled form, see `gradcam_service.compiled.form`."""
_DIGESTS = "sha256.json"
_DAMAGED = "it is damaged: not what was written"
_OF_SERVING = {"description", "method", "runtime", "precision", "batch", "load", "sample"}
"""Fields of a ``model.yaml`` that say what is done with a model; nothing that is kept of it is made by them."""


def key_of(folder: ModelFolder) -> str | None:
    """Hex SHA-256 of all that decides what is made of a model; None where its source runs code that decides it, too.

    That is its ``model.yaml`` but for what is of serving alone, the content of every file beside it, this package,
    Python, the versions of what it depends on, and the plugins.

    Raises:
        OSError, ModelFailed: a file can't be read.
    """
    if not SOURCES[folder.spec.source].reproducible:
        return None
    total = hashlib.sha256(f"{_installed()}\n{plugins_digest()}\n".encode())
    total.update(folder.spec.model_dump_json(exclude=_OF_SERVING).encode())
    for name, digest in contents(folder).items():
        total.update(f"{name}\0{digest}\n".encode())
    return total.hexdigest()


def contents(folder: ModelFolder) -> dict[str, str]:
    """The digest of each file beside ``model.yaml`` that may decide an answer, by name.

    Neither its compiled form does nor what is there for people.

    Raises:
        OSError, ModelFailed: one can't be read.
    """
    names = [name for name, _ in LocalPlace(folder.path).stamps()]
    others = ("model.yaml", *(name for name in names if name.startswith(f"{COMPILED}/") or name.endswith(".md")))
    return {name: _content(folder.path, name) for name in names if name not in others}


def _content(folder: Path, name: str) -> str:
    """The digest of a file's content; of one that leads out of the folder only that it does, as it will be refused."""
    try:
        path = inside(folder, name)
    except ModelFailed:
        return "elsewhere"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds(kind: str, key: str) -> bool:
    """Whether there is an item, whole or not."""
    try:
        with opened(kind, key) as path:
            return path is not None
    except OSError:
        return False


def find(kind: str, key: str) -> dict[str, bytes] | None:
    """The files of an item, by name; None where there is none that is whole."""
    try:
        with opened(kind, key) as path:
            return None if path is None else _whole(path)
    except OSError as error:
        log.warning("what was kept can't be read, and is made again: %s", error)
        return None


def folder_of(kind: str, key: str) -> Path | None:
    """The folder of an item, which `gradcam_service.registry.cache.holding` keeps; None where there is none whole."""
    try:
        path = held(kind, key)
        if path is None or _is_whole(path):
            return path
    except OSError as error:
        log.warning("what was kept can't be read: %s", error)
        return None
    _drop(path, _DAMAGED)
    return None


def _is_whole(path: Path) -> bool:
    """Whether the files of an item are as they were written.

    Raises:
        OSError: one that is there can't be read now.
    """
    try:
        digests = json.loads((path / _DIGESTS).read_bytes())
        return bool(digests) and digests == {name: _content(path, name) for name in digests}
    except (FileNotFoundError, ValueError, TypeError, ModelFailed):
        return False


def _whole(path: Path) -> dict[str, bytes] | None:
    try:
        digests = json.loads((path / _DIGESTS).read_bytes())
        files = {name: (path / name).read_bytes() for name in digests}
        if files and _digests(files) == digests:
            return files
    except (OSError, ValueError, TypeError):
        pass  # it is damaged as well, whatever Python calls that
    _drop(path, _DAMAGED)
    return None


def drop(kind: str, key: str, reason: str) -> None:
    """Delete an item whose files are whole, but not what they should be, so that it is made again."""
    with suppress(OSError), opened(kind, key) as path:
        if path is not None:
            _drop(path, reason)


def _drop(path: Path, reason: str) -> None:
    log.warning("what was kept in %s is made again: %s", path, reason)
    discard(path)


def keep(kind: str, key: str, files: Mapping[str, bytes]) -> bool:
    """Keep files for the next start; whether the disk takes them."""

    def fill(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / _DIGESTS).write_text(json.dumps(_digests(files)))

    try:
        with holding():  # and let go: it is not needed any more
            cached(kind, key, fill)
    except OSError as error:
        log.warning("nothing is kept for the next start, which takes as long as this one: %s", error)
        return False
    return True


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@cache
def _installed() -> str:
    """This package's code, Python, and the versions of what it depends on."""
    root = Path(gradcam_service.__file__).parent
    code = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    names = sorted({re.split(r"[^\w.-]", one)[0] for one in requires("gradcam-service") or ()})
    return "\n".join([code.hexdigest(), platform.python_version(), *(f"{name} {_version(name)}" for name in names)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
