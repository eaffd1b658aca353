"""Multipart forms: file parts that are images, and plain fields that are options."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gradcam_service.api.base64_text import decode_base64
from gradcam_service.errors import BadRequest, TooLarge

_IMAGE = ("image", "image[]")
"""Names of parts that are pictures, in any case; PHP writes brackets where there may be several."""


class _Parser(MultiPartParser):
    """Parser that takes parts named image for files, and knows whether it has seen the end: no picture is lost."""

    ended = False

    def on_headers_finished(self) -> None:
        """Take a part named image for a file without a filename, too, which many HTTP clients leave out."""
        _, options = parse_options_header(self._current_part.content_disposition)
        if b"filename" not in options and _is_image(options.get(b"name", b"").decode("latin-1")):
            assert self._current_part.content_disposition is not None
            self._current_part.content_disposition += b'; filename=""'
        super().on_headers_finished()

    def on_end(self) -> None:
        """The last boundary has come."""
        self.ended = True


async def read_form(
    content_type: str, body: AsyncGenerator[bytes, None], most_images: int, most_bytes: int
) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The images of a form, and its options as pairs of name and text.

    Args:
        content_type: the request's, with the form's boundary.
        body: its chunks.
        most_images: that it may have.
        most_bytes: of all of them.

    Raises:
        BadRequest: it can't be read, or has parts that are neither.
        TooLarge: it has more images.
    """
    parser = _Parser(Headers({"content-type": content_type}), body, max_files=most_images, max_fields=100)
    parser.spool_max_size = most_bytes  # never to disk: the file system may be read-only
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise TooLarge(f"too many images in one request; at most {most_images} are accepted") from None
        raise BadRequest(f"the multipart body can't be read: {error.message}") from None
    except UnicodeError:
        raise BadRequest("the multipart body's charset can't be used; utf-8 would work") from None
    if form and not parser.ended:
        raise BadRequest("the multipart body ends before its last boundary")
    images: list[bytes] = []
    options: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) != _is_image(name):
            raise BadRequest(f"part {name!r}: images are file parts named image, options are plain fields")
        if isinstance(value, UploadFile):
            images.append(await _image(value))
            await value.close()  # or its bytes would be held twice
        else:
            options.append((name, value))
    return images, options


def _is_image(name: str) -> bool:
    return name.lower() in _IMAGE


async def _image(part: UploadFile) -> bytes:
    """The picture in a part: its bytes, or what is in base64 there if its head says so or it is a plain text field."""
    data = await part.read()
    encoded = part.headers.get("content-transfer-encoding", "").strip().lower() == "base64"
    if encoded or (not part.filename and data.isascii()):
        where = "the part named image is text, where file parts would work, too; it"
        return await asyncio.to_thread(decode_base64, data.decode("latin-1"), where)
    return data
