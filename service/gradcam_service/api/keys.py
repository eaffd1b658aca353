"""Who may call: API keys, of which the service is told digests alone."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gradcam_service.api.observe import observation
from gradcam_service.errors import BadSettings, Unauthorized

log = logging.getLogger(__name__)

_BEARER = HTTPBearer(scheme_name="API key", description="One of the service's API keys.", auto_error=False)
_LINE = re.compile(r"(\S+)\s+([0-9a-fA-F]{64})")
_Entries = list[tuple[str, bytes]]


class Keys:
    """The keys in a file, read again whenever it changes.

    Args:
        path: one key a line, its name and the SHA-256 of it in hexadecimal; ``#`` begins a comment. A name may have
            several keys, so that a caller can be given a new one before the old one goes.

    Raises:
        BadSettings: the file can't be read, or a line of it, or holds no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._entries = _read(path)

    def caller(self, key: bytes) -> str | None:
        """The name of a key, or None if it is none of them. Takes as long for every key, right or wrong."""
        self._refresh()
        digest = hashlib.sha256(key).digest()
        named = [name for name, expected in self._entries if hmac.compare_digest(digest, expected)]
        return named[0] if named else None

    def _refresh(self) -> None:
        """Follow the file. One that can't be used changes nothing, so that a slip of the pen locks nobody out."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = _read(self._path)
        except BadSettings as error:
            log.error("%s; the keys read before stay in force", error.detail)

    def _look(self) -> tuple[int, ...] | None:
        """What differs once the file has been written or replaced; None if it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> _Entries:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadSettings(f"API keys can't be read from {path}: {reason}") from None
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (content := line.partition("#")[0].strip()):
            continue
        found = _LINE.fullmatch(content)
        if found is None:  # which is not shown: it may be a key that somebody forgot to digest
            raise BadSettings(f"API keys: line {number} of {path} is not a name and the SHA-256 of a key, in hex")
        entries.append((found[1], bytes.fromhex(found[2])))
    if not entries:
        raise BadSettings(f"API keys: there is none in {path}")
    return entries


async def require_key(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> None:
    """Let in who shows a key, and remember its name.

    Raises:
        Unauthorized: the key is missing or wrong.
    """
    keys: Keys = request.app.state.keys
    caller = keys.caller(given.credentials.encode("latin-1")) if given else None  # as the bytes that were sent
    if caller is None:
        raise Unauthorized("this call needs Authorization: Bearer with an API key")
    observation(request).caller = caller
