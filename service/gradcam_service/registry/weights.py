"""Finds and fetches files of weights, checked before a byte is interpreted."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem
from tqdm import tqdm

from gradcam_service.errors import ModelFailed, in_one_line
from gradcam_service.registry import cache
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.packaged import SCHEME, packaged_file
from gradcam_service.registry.waits import waits_for

ELSEWHERE: ContextVar[bool] = ContextVar("elsewhere", default=False)
"""Whether somebody else is to fetch what isn't here, whom `NotFetched` tells of it."""
_STALLED = 30.0
"""Seconds without a byte after which a download is given up."""


class NotFetched(ModelFailed):
    """Weights have to be fetched first, where that is left to somebody else; to all others the model has failed."""

    def __init__(self, url: str, digest: str) -> None:
        super().__init__(f"weights have yet to be fetched from {url}")
        self.url = url
        self.digest = digest


def fetch_weights(folder: ModelFolder) -> None:
    """Fetch the weights of a model whose ``model.yaml`` says from where, unless they are here.

    Raises:
        ModelFailed: they can't be fetched.
    """
    if "://" in str(folder.spec.weights):
        weights_file(folder)


def weights_file(folder: ModelFolder) -> Path:
    """Find the file that ``weights`` in ``model.yaml`` names, on this machine and with the digest that is said there.

    Raises:
        ModelFailed: there is no such file, it can't be fetched, or it is another one.
    """
    spec = folder.spec
    weights = str(spec.weights)
    if weights.startswith(SCHEME):
        if spec.sha256 is None:
            raise ModelFailed(f"weights {weights} need a sha256 in model.yaml: another version of it may hold others")
        return verified(packaged_file(weights), spec.sha256)
    if "://" in weights:
        if spec.sha256 is None:
            raise ModelFailed(f"weights {weights} need a sha256 in model.yaml, so that what arrives can be checked")
        if _is_of_this_machine(weights):
            raise ModelFailed(f"weights {weights} are a file of this machine; put it beside model.yaml")
        return fetch(weights, spec.sha256)
    path = folder.file("weights", weights)
    if not path.is_file():
        other = f", and not a weights name of {spec.architecture}" if spec.architecture else ""
        raise ModelFailed(f"weights {weights!r}: no such file in {folder.path}{other}{folder.meant(weights)}")
    return verified(path, spec.sha256)


def _is_of_this_machine(url: str) -> bool:
    """Whether a URL leads to a file here, by whatever chain of fsspec's file systems."""
    with contextlib.suppress(ValueError, ImportError):  # a scheme that nobody knows, or that needs a package
        return "::" in url or issubclass(fsspec.get_filesystem_class(url.partition("://")[0]), LocalFileSystem)
    return False


def verified(path: Path, digest: str | None) -> Path:
    """Check that a file has the digest, and return its path.

    Args:
        path: a file.
        digest: hex SHA-256 of the whole file, or a prefix of it; None where it isn't known.

    Raises:
        ModelFailed: it has another, or can't be read.
    """
    if digest is not None:
        try:
            _verify(path, digest, str(path))
        except OSError as error:
            raise ModelFailed(f"weights {path} can't be read: {error.strerror or error}") from error
    return path


def fetch(url: str, digest: str) -> Path:
    """Download a weights file, unless `cache` has it.

    Args:
        url: http or https, or another scheme that fsspec knows, such as s3.
        digest: hex SHA-256 that the file must have, or a prefix of it.

    Returns:
        The cached file, its digest checked.

    Raises:
        ModelFailed: the file can't be fetched, or is another one.
        NotFetched: it isn't there, and `ELSEWHERE` is set.
    """
    try:
        name = f"{digest}-{urllib.parse.urlsplit(url).path.rsplit('/', 1)[-1][-100:]}"
    except ValueError as error:
        raise ModelFailed(f"weights can't be fetched from {url}: {error}") from error
    fetched: list[Path] = []

    def fill(folder: Path) -> None:
        if ELSEWHERE.get():
            raise NotFetched(url, digest)
        waits_for(f"its weights from {url}")
        _download(url, folder / name)
        _verify(folder / name, digest, url)
        fetched.append(folder)

    try:
        path = cache.cached("weights", name, fill) / name
        if not fetched and not _has(path, digest):  # another file of that name, or changed since
            cache.discard(path.parent)
            path = cache.cached("weights", name, fill) / name
    except ModelFailed:
        raise
    except (OSError, http.client.HTTPException, ValueError, ImportError) as error:  # urllib's errors are OSErrors
        raise ModelFailed(f"weights can't be fetched from {url}: {getattr(error, 'reason', error)}") from error
    except Exception as error:  # file systems raise what their libraries do, and stumble: no credentials, no answer
        raise ModelFailed(f"weights can't be fetched from {url}: {in_one_line(error)}") from error
    return path


def _download(url: str, path: Path) -> None:
    name = url.rsplit("/", 1)[-1]
    with (
        _opened(url) as (source, total),
        path.open("wb") as file,
        tqdm(total=total, unit="B", unit_scale=True, desc=name, delay=1, disable=None) as progress,
    ):
        while chunk := source.read(1 << 20):
            progress.update(file.write(chunk))


@contextlib.contextmanager
def _opened(url: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """What a URL leads to, and its size in bytes where that is known."""
    if url.startswith(("http://", "https://")):
        with urllib.request.urlopen(url, timeout=_STALLED) as response:
            yield response, int(response.headers.get("Content-Length") or 0) or None
    else:
        with fsspec.open(url, "rb") as file:
            yield file, getattr(file, "size", None)


def _has(path: Path, digest: str) -> bool:
    try:
        _verify(path, digest, "")
    except (ModelFailed, OSError):
        return False
    return True


def _verify(path: Path, digest: str, name: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(digest):
        raise ModelFailed(f"weights {name} have SHA-256 {actual}, not the expected {digest}")
