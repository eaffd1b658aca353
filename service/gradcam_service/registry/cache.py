"""Keeps on this machine what was fetched from URLs, or took long to make, up to a size. Torch-free.

What was used longest ago goes first. Processes share it, and any of them may die at any time. An item is a folder that
appears and vanishes by being renamed, so that nobody ever sees half of one. Whoever uses it holds a lock on it, which
ends with the process at the latest (https://man7.org/linux/man-pages/man2/flock.2.html); what is locked is not deleted.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

log = logging.getLogger(__name__)

_HOLDER: ContextVar[list[Lease] | None] = ContextVar("holder", default=None)


class Lease:
    """Keeps an item from being deleted for as long as something refers to this.

    Args:
        path: of the item.
        descriptor: of its folder, locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        weakref.finalize(self, os.close, descriptor)


@contextmanager
def holding() -> Iterator[list[Lease]]:
    """Collect the leases of all that this thread takes from the cache meanwhile."""
    leases: list[Lease] = []
    token = _HOLDER.set(leases)
    try:
        yield leases
    finally:
        _HOLDER.reset(token)


def cached(kind: str, name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of an item, filled if need be, which `holding` keeps from being deleted.

    Args:
        kind: ``models``, ``weights``, ``traces``, ``exports``, ``forms``, ``failures`` or ``compiled``.
        name: says all that its content depends on.
        fill: called with an empty folder where the item is not there.

    Raises:
        OSError: it can't be written; or what ``fill`` raises.
    """
    path = _root() / kind / name
    while (lease := _leased(path)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=path.parent))
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            _lock(descriptor, fcntl.LOCK_SH)
            fill(partial)
            _moved(partial, path)
        finally:
            os.close(descriptor)
            shutil.rmtree(partial, ignore_errors=True)
    if (leases := _HOLDER.get()) is not None:
        leases.append(lease)
    return path


def compilations(*decisive: str) -> Path | None:
    """A folder for what a runtime compiles of a model, by all that this depends on; None where none can be written."""
    try:
        return cached("compiled", hashlib.sha256("\n".join(decisive).encode()).hexdigest(), lambda _: None)
    except OSError as error:
        log.warning("what is compiled can't be kept", extra={"fields": {"reason": str(error)}})
        return None


def held(kind: str, name: str) -> Path | None:
    """The folder of an item that is there, which `holding` keeps from being deleted; None where there is none.

    Raises:
        OSError: it can't be opened.
    """
    lease = _leased(_root() / kind / name)
    if lease is not None and (leases := _HOLDER.get()) is not None:
        leases.append(lease)
    return None if lease is None else lease.path


@contextmanager
def opened(kind: str, name: str) -> Iterator[Path | None]:
    """The folder of an item, which is not deleted while in it; None where there is none.

    Raises:
        OSError: it can't be opened.
    """
    lease = _leased(_root() / kind / name)
    yield None if lease is None else lease.path


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Wait until nobody else on this machine is in it, as far as the cache can be written."""
    path = _root() / f"{what}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Delete an item, whoever uses it: it isn't what its name says."""
    aside = path.with_name(f".{uuid.uuid4().hex}")
    with suppress(OSError):
        os.replace(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def prune(most: int) -> None:
    """Delete what nobody holds: what dead processes left, and then what was used longest ago until the rest fits.

    Args:
        most: bytes that all items may take together; 0 for no bound.
    """
    items = sorted(((_used(path), path) for path in _root().glob("*/*")), key=lambda item: item[0])
    for _, path in items:
        if path.name.startswith("."):
            _delete_unless_held(path)
    sizes = {path: _size(path) for _, path in items if path.exists()}
    for path in list(sizes):
        if 0 < most < sum(sizes.values()) and _delete_unless_held(path):
            del sizes[path]


def _root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gradcam"


def _leased(path: Path) -> Lease | None:
    """A lease of an item that is there, which counts as a use of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    _lock(descriptor, fcntl.LOCK_SH)
    lease = Lease(path, descriptor)
    if not _is(path, descriptor):  # it was deleted in between
        return None
    with suppress(OSError):
        os.utime(path)
    return lease


def _delete_unless_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if not (_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is(path, descriptor)):
            return False
        discard(path)
    finally:
        os.close(descriptor)
    return True


def _lock(descriptor: int, kind: int) -> bool:
    """Whether the lock was had: others may hold it, and not every network's file system knows locks."""
    try:
        fcntl.flock(descriptor, kind)
    except OSError:
        return False
    return True


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _moved(partial: Path, path: Path) -> None:
    try:
        os.replace(partial, path)
    except OSError:
        if not path.is_dir():  # else another process was faster, and has fetched the same
            raise


def _used(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    """Bytes of the files in a folder; of those that vanish meanwhile, none."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
