"""Multipart forms: file parts that are images, and plain fields that are options."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from fnmatch import fnmatchcase
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gradcam_service.api.base64_text import decode_base64
from gradcam_service.errors import BadRequest, TooLarge, shortened
from gradcam_service.images.signatures import URL, kind
from gradcam_service.inputs import media_types

_IMAGE = ("image", "image[]")
"""Names of parts that are pictures, in any case; PHP writes brackets where there may be several."""
FRAMES = ("frames", "frames[]")
"""Of parts that are one picture together, oldest first."""


class Part(NamedTuple):
    """Part of a form that holds a picture.

    Attributes:
        name: of the part.
        data: its bytes.
        encoded: whether they are the picture's in base64.
    """

    name: str
    data: bytes
    encoded: bool

    @property
    def is_frame(self) -> bool:
        """Whether it is a part of a picture alone."""
        return self.name.lower() in FRAMES

    def picture(self) -> bytes:
        """The bytes of the picture, decoded if need be. Raises `BadRequest` where they are no base64."""
        if not self.encoded:
            return self.data
        return decode_base64(
            self.data.decode("latin-1"),
            f"the part named {self.name} is text, where file parts (curl -F {self.name}=@photo.jpg) work, too; it",
        )


class _Parser(MultiPartParser):
    """Parser that takes parts of some names for files, and knows whether it has seen the end: no picture is lost."""

    pictures: Collection[str] = ()
    ended = False

    def on_headers_finished(self) -> None:
        """Take a part of these names for a file without a filename, too, which many HTTP clients leave out."""
        _, options = parse_options_header(self._current_part.content_disposition)
        if b"filename" not in options and options.get(b"name", b"").decode("latin-1").lower() in self.pictures:
            assert self._current_part.content_disposition is not None
            self._current_part.content_disposition += b'; filename=""'
        super().on_headers_finished()

    def on_end(self) -> None:
        """The last boundary has come."""
        self.ended = True


async def read_form(
    content_type: str, body: AsyncGenerator[bytes, None], most_images: int, most_bytes: int
) -> tuple[list[Part], list[tuple[str, str]]]:
    """The parts of a form that are images, and its options as pairs of name and text.

    Args:
        content_type: the request's, with the form's boundary.
        body: its chunks.
        most_images: that it may have.
        most_bytes: of all of them.

    Raises:
        BadRequest: it can't be read, or has parts that are neither.
        TooLarge: it has more images.
    """
    images: list[Part] = []
    options: list[tuple[str, str]] = []
    for name, value in await parts_of(content_type, body, (*_IMAGE, *FRAMES), most_images, most_bytes):
        if isinstance(value, Part) != (name.lower() in (*_IMAGE, *FRAMES)):
            raise BadRequest(
                f"part {shortened(name)!r} is a file, but images are file parts named image, as of curl -F "
                "image=@photo.jpg, or several frames of one named frames, and options are plain fields"
            )
        if isinstance(value, Part):
            images.append(value)
        else:
            options.append((name, value))
    if 0 < sum(part.is_frame for part in images) < len(images):
        raise BadRequest("the form has parts named image and parts named frames; either would work")
    return images, options


async def parts_of(
    content_type: str, body: AsyncGenerator[bytes, None], pictures: Collection[str], most_images: int, most_bytes: int
) -> list[tuple[str, Part | str]]:
    """The parts of a form by their names: those that are files, or called as ``pictures`` in lower case, and text.

    Args:
        content_type: the request's, with the form's boundary.
        body: its chunks.
        pictures: names of parts that are files, with a filename or without.
        most_images: the most files that it may have.
        most_bytes: of all of them.

    Raises:
        BadRequest: it can't be read.
        TooLarge: it has more files.
    """
    parser = _Parser(Headers({"content-type": content_type}), body, max_files=most_images, max_fields=100)
    parser.pictures = pictures
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
    parts: list[tuple[str, Part | str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            data = await value.read()
            parts.append((name, Part(name, data, _is_encoded(value, data))))
            await value.close()  # or its bytes would be held twice
        else:
            parts.append((name, value))
    return parts


def carries_picture(content_type: str) -> bool:
    """Whether a body or a part of this type is a picture, an array or another input as it is."""
    media_type = content_type.partition(";")[0].strip().lower()
    return any(fnmatchcase(media_type, read) for read in ("application/octet-stream", *media_types()))


def begins_as_file(data: bytes) -> bool:
    """Whether data begin like a format that is known, and not like text."""
    return kind(data) not in (None, URL, "text")


def _is_encoded(part: UploadFile, data: bytes) -> bool:
    """Whether a part's head says that it is base64, or it is a plain text field of nothing else that is known."""
    if part.headers.get("content-transfer-encoding", "").strip().lower() == "base64":
        return True
    as_it_is = part.filename or carries_picture(part.content_type or "")
    return not as_it_is and data.isascii() and not begins_as_file(data)
