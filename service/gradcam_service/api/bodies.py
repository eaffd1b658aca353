"""The three ways to send images, read into one form: image bytes and validated options."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from functools import partial
from time import monotonic

import msgspec
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from gradcam_service.core.admission import Admission
from gradcam_service.core.options import Call, Options
from gradcam_service.errors import BadOption, BadRequest, ClientLeft, TooLarge, TooSlow, UnsupportedMedia
from gradcam_service.inputs import media_types
from gradcam_service.settings import Settings

_LONG = 2**20
"""Bytes of JSON, or characters of base64, that keep the event loop for a millisecond."""
_REPEATABLE = ("target", "output")

_HOW = (
    "send multipart/form-data with file parts named image, application/json with image or images in base64, "
    "or the picture itself as image/*, an array as application/x-npy, or either as application/octet-stream"
)


async def read_call(
    request: Request, options: type[Options], settings: Settings, admission: Admission
) -> Call[Options]:
    """Read a request's images and options. Options in the query string work with every form of body.

    Raises:
        UnsupportedMedia: the content type is none of the three.
        BadRequest: the body can't be read as what it says it is, or holds no image.
        BadOption: an option is unknown, out of range or given twice.
        TooLarge: the body or the number of images is over its limit.
        TooSlow: the body did not arrive in time.
        TooManyBytes: it didn't say how long it is, and there is no room for so many bytes.
        DeadlineExceeded: a long body of JSON was not decoded in time.
        ClientLeft: the connection was closed before the body was whole.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        images, given = await _multipart(request, settings, admission)
    elif media_type == "application/json":
        whole = await read_body(request, settings, admission)
        in_turn = partial(admission.run, monotonic() + settings.timeout_ms / 1e3)
        images, given = _json(whole) if len(whole) <= _LONG else await in_turn(partial(_json, whole))
    elif any(fnmatchcase(media_type, read) for read in ("application/octet-stream", *media_types())):
        images, given = [await read_body(request, settings, admission)], {}
    else:
        named = f"content type {media_type!r}" if media_type else "a body without a content type"
        raise UnsupportedMedia(f"{named} carries no image; {_HOW}")
    if not images or not all(images):
        raise BadRequest(f"there is no image in the body, or an empty one; {_HOW}")
    if len(images) > settings.most_images:
        raise TooLarge(f"{len(images)} images in one request; at most {settings.most_images} are accepted")
    query = _gathered(request.query_params.multi_items())
    if twice := query.keys() & given.keys():
        raise BadOption(f"option {min(twice)!r} is given both in the query string and in the body")
    return Call(images, _validated(options, query | given))


async def read_body(request: Request, settings: Settings, admission: Admission) -> bytes:
    """Read a body, whatever it holds.

    Raises:
        TooLarge, TooSlow, TooManyBytes, ClientLeft: as `read_call`.
    """
    async with _in_time(settings):
        return b"".join([chunk async for chunk in _limited(request, settings.max_body_bytes, admission)])


@asynccontextmanager
async def _in_time(settings: Settings) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(settings.read_seconds):
            yield
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {settings.read_seconds:g} s") from None


def decode_base64(text: object, where: str) -> bytes:
    """The bytes of a base64 string, which may be a ``data:`` URI and may hold line breaks.

    Raises:
        BadRequest: saying where it was found and what is wrong.
    """
    if not isinstance(text, str):
        raise BadRequest(f"{where} must be a string of base64, or a data: URI")
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.endswith(";base64"):
            raise BadRequest(f"{where} is a data: URI without ';base64,'; only base64 is read")
    text = "".join(text.split())
    if 0 <= text.find("=") < len(text) - 2:
        raise BadRequest(f"{where} is not base64: its padding is not at its end")
    try:  # a part at a time, between which other threads get their turn
        return b"".join(base64.b64decode(text[i : i + _LONG], validate=True) for i in range(0, len(text), _LONG))
    except (binascii.Error, ValueError):
        raise BadRequest(f"{where} is not base64; the standard alphabet with padding would work") from None


def _json(body: bytes) -> tuple[list[bytes], dict[str, object]]:
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(members, dict):
        raise BadRequest('the body must be a JSON object such as {"image": "<base64>"}')
    if ("image" in members) == ("images" in members):
        raise BadRequest('the body must have either "image", a string of base64, or "images", a list of them')
    if "image" in members:
        return [decode_base64(members.pop("image"), '"image"')], members
    listed = members.pop("images")
    if not isinstance(listed, list):
        raise BadRequest('"images" must be a list of base64 strings')
    return [decode_base64(text, f'"images"[{i}]') for i, text in enumerate(listed)], members


class _Parser(MultiPartParser):
    """A multipart parser that knows whether it has seen the end, so that no picture is lost in silence."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _multipart(
    request: Request, settings: Settings, admission: Admission
) -> tuple[list[bytes], dict[str, object]]:
    body = _limited(request, settings.max_body_bytes, admission)
    parser = _Parser(request.headers, body, max_files=settings.most_images, max_fields=100)
    parser.spool_max_size = settings.max_body_bytes  # never to disk: the file system may be read-only
    try:
        async with _in_time(settings):
            form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise TooLarge(f"too many images in one request; at most {settings.most_images} are accepted") from None
        raise BadRequest(f"the multipart body can't be read: {error.message}") from None
    except UnicodeError:
        raise BadRequest("the multipart body's charset can't be used; utf-8 would work") from None
    if form and not parser.ended:
        raise BadRequest(f"the multipart body ends before its last boundary; {_HOW}")
    images: list[bytes] = []
    pairs: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) != (name == "image"):
            raise BadRequest(f"part {name!r}: images are file parts named image, options are plain fields")
        if isinstance(value, UploadFile):
            images.append(await value.read())
            await value.close()  # or its bytes would be held twice
        else:
            pairs.append((name, value))
    return images, _gathered(pairs)


def declared_size(request: Request) -> int:
    """Bytes of the body, as its head says; 0 where it doesn't."""
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


async def _limited(request: Request, limit: int, admission: Admission) -> AsyncGenerator[bytes, None]:
    """The body's chunks, as long as it stays within ``limit`` bytes; ``admission`` holds them."""
    too_large = TooLarge(f"the body is larger than {limit} bytes, the most that is accepted")
    declared = declared_size(request)
    if declared > limit:
        raise too_large
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            if not declared:
                admission.take_bytes(len(chunk))
            yield chunk
    except ClientDisconnect:
        raise ClientLeft("the connection was closed before the body was whole") from None


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Text options by name, those that may be repeated as lists."""
    options: dict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        options[name].append(value)
    twice = [name for name, values in options.items() if len(values) > 1 and name not in _REPEATABLE]
    if twice:
        raise BadOption(f"option {twice[0]!r} is given more than once; only {' and '.join(_REPEATABLE)} may be")
    return {name: values if name in _REPEATABLE else values[0] for name, values in options.items()}


def _validated(options: type[Options], given: dict[str, object]) -> Options:
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # of several options together
            raise BadOption(reason) from None
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise BadOption(f"there is no option {name!r}; there are {', '.join(options.model_fields)}") from None
        raise BadOption(f"option {name!r}: {reason}") from None
