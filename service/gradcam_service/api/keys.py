"""Authentication by an API key, of which the service is told a digest alone, or by the admin token."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path

from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from gradcam_service import metrics
from gradcam_service.api.observe import observation
from gradcam_service.errors import BadSettings, Unauthorized

log = logging.getLogger(__name__)

_ELSEWHERE = ("X-API-Key", "API-Key", "X-Auth-Token")
"""Where other services have their keys."""
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

    scheme, needed = "API key", "an API key"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._entries, wrong = _read(path)
        if wrong:
            raise BadSettings(wrong)
        log.info("API keys have been read", extra={"fields": self._counts()})

    def caller(self, key: bytes) -> str | None:
        """The name of a key, or None if it is none of them. Takes as long for every key, right or wrong."""
        self._refresh()
        digest = hashlib.sha256(key).digest()
        named = [name for name, expected in self._entries if hmac.compare_digest(digest, expected)]
        return named[0] if named else None

    def _refresh(self) -> None:
        """Follow the file. A wrong line is passed over: keys that have gone from the others are refused at once.

        One that can't be read, or holds no key, changes nothing: files are empty for a moment while they are written.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        before = len(self._entries)
        found, wrong = _read(self._path)
        self._entries = found or self._entries
        metrics.API_KEYS_UNUSABLE.set(bool(wrong))
        if wrong:
            log.error("%s; %s", wrong, "its other lines count" if found else "the keys read before stay in force")
        else:
            log.info("API keys have been read again", extra={"fields": self._counts() | {"before": before}})

    def _counts(self) -> dict[str, int]:
        return {"keys": len(self._entries), "callers": len({name for name, _ in self._entries})}

    def _look(self) -> tuple[int, ...] | None:
        """What differs once the file has been written or replaced; None if it is not there."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> tuple[_Entries, str]:
    """The keys in a file, and what is wrong with it; empty where nothing is."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return [], f"API keys can't be read from {path}: {reason}"
    entries, wrong = _Entries(), ""
    for number, line in enumerate(text.splitlines(), 1):
        if not (content := line.partition("#")[0].strip()):
            continue
        found = _LINE.fullmatch(content)
        if found is None:  # which is not shown: it may be a key that somebody forgot to digest
            wrong = wrong or f"API keys: line {number} of {path} is not a name and the SHA-256 of a key, in hex"
        else:
            entries.append((found[1], bytes.fromhex(found[2])))
    return entries, wrong or ("" if entries else f"API keys: there is none in {path}")


class AdminToken:
    """The one token of the management calls.

    Args:
        secret: the token, whose bytes in UTF-8 are what callers send.
    """

    scheme, needed = "admin token", "the admin token"

    def __init__(self, secret: SecretStr) -> None:
        self._token = secret.get_secret_value().encode()

    def caller(self, token: bytes) -> str | None:
        """A name that no key can have, or None if it is another token. Takes as long for every token."""
        return "admin token" if hmac.compare_digest(token, self._token) else None


class Bearer(HTTPBearer):
    """Dependency that lets in who shows a known token as ``Authorization: Bearer``, and notes whose it is.

    Args:
        known: the tokens.
    """

    def __init__(self, known: Keys | AdminToken) -> None:
        super().__init__(scheme_name=known.scheme, description=f"Takes {known.needed}.", auto_error=False)
        self._known = known

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials:
        """The token that a request came with.

        Raises:
            Unauthorized: it is missing or unknown.
        """
        given = await super().__call__(request)
        caller = self._known.caller(given.credentials.encode("latin-1")) if given else None  # the bytes that were sent
        if given is None:
            elsewhere = next((name for name in _ELSEWHERE if name.lower() in request.headers), None)
            instead = (
                f"; {elsewhere} isn't read: Authorization: Bearer and what is in it would work" if elsewhere else ""
            )
            raise Unauthorized(f"this call needs Authorization: Bearer with {self._known.needed}{instead}")
        if caller is None:
            raise Unauthorized(f"what follows Bearer is not {self._known.needed} that this call takes")
        observation(request).caller = caller
        return given
