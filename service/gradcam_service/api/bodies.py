"""The three ways to send images, read into one form: image bytes and validated options."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from gradcam_service.api.base64_text import decode_base64, frames_of
from gradcam_service.api.encodings import content_coding, decoded
from gradcam_service.api.json_text import members_of
from gradcam_service.api.multipart import Part, carries_picture, parts_of, read_form
from gradcam_service.api.request_options import gathered, validated
from gradcam_service.core.admission import Admission
from gradcam_service.core.options import Call, Image, Options, check_image_count
from gradcam_service.errors import (
    BadOption,
    BadRequest,
    ClientLeft,
    TooLarge,
    TooSlow,
    UnsupportedMedia,
    shortened,
)
from gradcam_service.inputs import media_types
from gradcam_service.naming import misspelt
from gradcam_service.settings import Settings

Outcome = TypeVar("Outcome")

_LONG = 2**18
"""Bytes that keep the event loop for under a millisecond where they are base64, for thirty where they are numbers."""
_PICTURES = ("image", "images", "frames")
"""Members of JSON that hold pictures."""

_HOW = (
    "send multipart/form-data with file parts named image (or frames, of one), application/json with image, images or "
    f"frames in base64, or what is in them itself, as {', '.join(media_types())} or application/octet-stream"
)
_CURLS = " (curl says so of what -d and --data-binary send; -T photo.jpg or -F image=@photo.jpg would work)"


async def read_call(
    request: Request, options: type[Options], settings: Settings, admission: Admission
) -> Call[Options]:
    """Read a request's images and options. Options in the query string work with every form of body.

    Raises:
        UnsupportedMedia: the content type is none of the three.
        BadRequest: the body can't be read as what it says it is, or holds no image.
        BadOption: an option is unknown, out of range or given twice.
        TooManyTargets: there are more than are accepted.
        TooLarge: the body or the number of images is over its limit.
        TooSlow: the body did not arrive in time.
        TooManyBytes: it didn't say how long it is, and there is no room for so many bytes.
        DeadlineExceeded: a long body of JSON or base64 was not decoded in time.
        ClientLeft: the connection was closed before the body was whole.
    """
    content_type = request.headers.get("content-type", "").strip()
    body = _limited(request, settings.max_body_bytes, admission)
    if not content_type:
        whole = await _whole(body, settings)
        content_type, body = _sniffed(whole), _once(whole)
    images, given = await _read(content_type, body, settings, admission)
    if not images or not all(all(image) if isinstance(image, tuple) else image for image in images):
        raise BadRequest(f"there is no image in the body, or an empty one; {_HOW}")
    query = gathered(request.query_params.multi_items())
    if twice := query.keys() & given.keys():
        raise BadOption(f"option {min(twice)!r} is given both in the query string and in the body")
    return Call(images, validated(options, query | given, settings.max_targets))


async def parsed(
    request: Request, parse: Callable[[bytes], Outcome], settings: Settings, admission: Admission
) -> Outcome:
    """What comes of a request's whole body, where a long one keeps no other request waiting.

    Args:
        request: see `whole_body`.
        parse: reads the body; of what it is to give, nothing is left to be read later.
        settings: say how long the body may be and take.
        admission: holds its bytes.

    Raises:
        ServiceError: as `whole_body` and `in_turn`, and what ``parse`` raises.
    """
    body = await whole_body(request, settings, admission)
    size = max(len(body), declared_size(request))  # what is no body comes with its size, too
    return await in_turn(partial(parse, body), size, settings, admission)


async def whole_body(request: Request, settings: Settings, admission: Admission) -> bytes:
    """A request's body, whatever it is said to be, inflated where it is compressed.

    Raises:
        UnsupportedMedia: it is compressed in another way than gzip or deflate.
        BadRequest, TooLarge, TooSlow, TooManyBytes, ClientLeft: as `read_call`.
    """
    return await _whole(_limited(request, settings.max_body_bytes, admission), settings)


async def form_parts(
    request: Request, pictures: Collection[str], settings: Settings, admission: Admission
) -> list[tuple[str, Part | str]]:
    """The parts of a request's form; see `parts_of`.

    Raises:
        BadRequest, TooLarge, TooSlow, TooManyBytes, ClientLeft, UnsupportedMedia: as `read_call`.
    """
    body, content_type = _limited(request, settings.max_body_bytes, admission), request.headers["content-type"]
    async with _in_time(settings):
        return await parts_of(content_type, body, pictures, settings.most_images, settings.max_body_bytes)


async def _read(
    content_type: str, body: AsyncGenerator[bytes, None], settings: Settings, admission: Admission
) -> tuple[Sequence[Image], dict[str, object]]:
    """The images of a body and the options in it."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with _in_time(settings):
            parts, fields = await read_form(content_type, body, settings.most_images, settings.max_body_bytes)
        in_base64 = sum(len(part.data) for part in parts if part.encoded)
        images = await in_turn(lambda: [part.picture() for part in parts], in_base64, settings, admission)
        return ([tuple(images)] if any(part.is_frame for part in parts) else images), gathered(fields)
    if media_type == "application/json":
        whole = await _whole(body, settings)
        return await in_turn(partial(_json, whole, settings.most_images), len(whole), settings, admission)
    if carries_picture(media_type):
        return [await _whole(body, settings)], {}
    curls = _CURLS if media_type == "application/x-www-form-urlencoded" else ""
    raise UnsupportedMedia(f"content type {media_type!r} carries no image, and URLs are not fetched; {_HOW}{curls}")


async def in_turn(work: Callable[[], Outcome], size: int, settings: Settings, admission: Admission) -> Outcome:
    """What comes of work on so many bytes, done in a thread where it would keep the event loop for long.

    Raises:
        DeadlineExceeded: it was not done in the time that a request has.
    """
    return work() if size <= _LONG else await admission.run(monotonic() + settings.timeout_ms / 1e3, work)


def _sniffed(body: bytes) -> str:
    """The content type of a body that comes without one, as of ``curl -T``: by its first character."""
    begin = body[:1000].removeprefix(codecs.BOM_UTF8).lstrip()
    if begin.startswith(b"{"):
        return "application/json"
    if found := re.match(rb"--([0-9A-Za-z'()+_,./:=? -]{1,70})\r\n", begin):
        return f'multipart/form-data; boundary="{found[1].decode("ascii")}"'
    return "application/octet-stream"


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _whole(body: AsyncGenerator[bytes, None], settings: Settings) -> bytes:
    async with _in_time(settings):
        return b"".join([chunk async for chunk in body])


@asynccontextmanager
async def _in_time(settings: Settings) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(settings.read_seconds):
            yield
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {settings.read_seconds:g} s") from None


def _json(body: bytes, most_images: int) -> tuple[list[Image], dict[str, object]]:
    members = members_of(body, '{"image": "<base64>"}')
    given = [name for name in _PICTURES if name in members]
    if len(given) != 1:
        near = misspelt(members, _PICTURES)
        meant = f"; did you mean that by {shortened(near[0])!r}?" if near else ""
        raise BadRequest(
            'the body must have either "image", a string of base64, or "images", a list of them, or "frames", those of '
            f"one{meant}"
        )
    (name,) = given
    written = members.pop(name)
    if name == "image":
        return [decode_base64(written, '"image"')], members
    if not isinstance(written, list):
        raise BadRequest(f'"{name}" must be a list of base64 strings')
    count = sum(len(one) if isinstance(one, list) else 1 for one in written)
    check_image_count(count, most_images)
    if name == "frames":
        return [frames_of(written, '"frames"')], members
    listed = ((one, f'"images"[{place}]') for place, one in enumerate(written))
    return [
        frames_of(one, place) if isinstance(one, list) else decode_base64(one, place) for one, place in listed
    ], members


def declared_size(request: Request) -> int:
    """Bytes of the body, as its head says; 0 where it doesn't."""
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


async def _limited(request: Request, limit: int, admission: Admission) -> AsyncGenerator[bytes, None]:
    """The body's chunks, decoded, as long as it stays within ``limit`` bytes; ``admission`` holds them."""
    coding = content_coding(request.headers)
    declared = declared_size(request)
    if declared > limit:
        raise _too_large(limit)
    chunks = _within(limit, request.stream())
    try:
        async for chunk in _within(limit, decoded(chunks, coding)) if coding else chunks:
            if coding or not declared:
                admission.take_bytes(len(chunk))
            yield chunk
    except ClientDisconnect:
        raise ClientLeft("the connection was closed before the body was whole") from None


async def _within(limit: int, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """The chunks, as long as they are no more bytes in all."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes, the most that is accepted")
