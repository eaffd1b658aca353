"""The page at ``/``: files of the package, and the colours that it paints with; compressed for whom takes that."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from gradcam_service.api.preference import by_preference
from gradcam_service.images.colormaps import COLORMAPS, table

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".md": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # keep it, and ask whether it has changed
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    encoding: str = ""

    @property
    def headers(self) -> dict[str, str]:
        tag = {"ETag": f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'}
        return tag | ({"Content-Encoding": self.encoding} if self.encoding else {})

    @cached_property
    def compressed(self) -> _File:
        """The same in gzip, where that is smaller: not of JPEGs."""
        content = gzip.compress(self.content, mtime=0)
        smaller = len(content) < len(self.content)
        return _File(content, self.media_type, "gzip") if smaller else self


def page(request: Request) -> Response:
    """The playground, which `/` answers with."""
    return _answer(request, _files()["index.html"])


@router.get("/web/{path:path}")
async def file(request: Request, path: str) -> Response:
    """A part of the page."""
    found = _files().get(path)
    if found is None:
        raise HTTPException(404)
    return _answer(request, found)


def _answer(request: Request, found: _File) -> Response:
    sent = found.compressed if "gzip" in by_preference(request.headers.get("accept-encoding", "")) else found
    headers = _HEADERS | sent.headers
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(sent.content, media_type=sent.media_type, headers=headers)


@cache
def _files() -> dict[str, _File]:
    """Everything that is served, by its path: only what is here can be asked for."""
    package = files("gradcam_service")
    own, pictures = _read(package / "api" / "web", ""), _read(package / "pictures", "examples/")
    return dict([*own, *pictures]) | {"palettes.json": _palettes()}


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif media_type := _MEDIA_TYPES.get(f".{entry.name.rpartition('.')[2]}"):
            found.append((prefix + entry.name, _File(entry.read_bytes(), media_type)))
    return found


def _palettes() -> _File:
    """Each colormap's 256 colours, RGB, in base64: the very ones that the service paints with."""
    tables = {name: base64.b64encode(table(name).tobytes()).decode("ascii") for name in COLORMAPS}
    return _File(json.dumps(tables).encode(), "application/json")
