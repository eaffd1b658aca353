"""Clients of a running service, one that waits and one for asyncio (or trio)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast, overload
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx
import msgspec

from gradcam_service.client.errors import Refused, problem_of
from gradcam_service.client.options import ExplainOptions, PredictOptions
from gradcam_service.client.pictures import Picture, encoded
from gradcam_service.client.results import Result, read_results
from gradcam_service.client.tries import Tries

if TYPE_CHECKING:
    from gradcam_service.api.schemas import ModelBody, ModelDetail

Answer = TypeVar("Answer")
APicture = TypeVar("APicture", bound=Picture)

_TIMEOUT = 60.0
"""Seconds; twice what the service gives a request unless told otherwise, so that its own answer comes first."""
_RETRIES = 4


@dataclass(frozen=True)
class _Call(Generic[Answer]):
    """What is asked, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], Answer]
    body: bytes | None = None


class Client:
    """Client of one service, for any number of threads. It holds connections open: close it, or use ``with``.

    A call is sent again where the connection was lost or the service is busy (429, 502, 503), after as long as its
    ``Retry-After`` says; nothing that is asked here changes anything. Every call raises `ClientError`.

    Args:
        url: of the service, such as ``http://localhost:8000``.
        key: API key, where one is needed; by default that in ``GRADCAM_API_KEY``.
        timeout: seconds that a call may take, with all that is sent again and waited for.
        retries: how often one is sent again at most.

    Raises:
        ValueError: the address is none of HTTP, or the key no key.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout: float = _TIMEOUT, retries: int = _RETRIES) -> None:
        self._http = httpx.Client(**_settings(url, key))
        self._tries = partial(Tries, self._http.base_url, timeout, retries)

    @overload
    def predict(self, image: Picture, **options: Unpack[PredictOptions]) -> Result: ...
    @overload
    def predict(
        self, image: list[APicture] | tuple[APicture, ...], **options: Unpack[PredictOptions]
    ) -> list[Result]: ...
    def predict(self, image: Picture | Sequence[Picture], **options: Unpack[PredictOptions]) -> Result | list[Result]:
        """What the model sees in one image, or in each of a list, in its order.

        Args:
            image: a path, the bytes of a file, a Pillow picture or a NumPy array, or `Frames` of them where the model
                takes several as one; or a list or tuple of such.
            options: see `PredictOptions`.

        Raises:
            OSError, TypeError, ValueError: an image can't be read, or is none.
            ClientError: there is no answer, or no image in the list has one; what is wrong with one of several is
                raised by its `Result`.
        """
        return self._answer(_inference("/predict", image, options))

    @overload
    def explain(self, image: Picture, **options: Unpack[ExplainOptions]) -> Result: ...
    @overload
    def explain(
        self, image: list[APicture] | tuple[APicture, ...], **options: Unpack[ExplainOptions]
    ) -> list[Result]: ...
    def explain(self, image: Picture | Sequence[Picture], **options: Unpack[ExplainOptions]) -> Result | list[Result]:
        """Where the model looks in one image, or in each of a list, in its order; and what it sees.

        Args:
            image: as `predict`.
            options: see `ExplainOptions`.

        Raises:
            OSError, TypeError, ValueError, ClientError: as `predict`.
        """
        return self._answer(_inference("/explain", image, options))

    def models(self) -> list[ModelBody]:
        """Every model version that the service has."""
        return self._answer(_models())

    def model(self, name: str) -> ModelDetail:
        """One model, ``name``, ``name@version`` or ``name@alias``: its labels, layers and methods."""
        return self._answer(_model(name))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, call: _Call[Answer]) -> Answer:
        tries = self._tries()
        while True:
            with tries.another(), self._http.stream(call.method, call.path, **_sent(call, tries)) as response:
                pieces = []
                for piece in response.iter_bytes():
                    tries.left()  # httpx times each piece, not all of them
                    pieces.append(piece)
                return _read(call, response, b"".join(pieces))
            time.sleep(tries.pause)


class AsyncClient:
    """`Client` for asyncio, or trio: the same arguments and methods, each to be awaited."""

    def __init__(self, url: str, *, key: str | None = None, timeout: float = _TIMEOUT, retries: int = _RETRIES) -> None:
        self._http = httpx.AsyncClient(**_settings(url, key))
        self._tries = partial(Tries, self._http.base_url, timeout, retries)

    @overload
    async def predict(self, image: Picture, **options: Unpack[PredictOptions]) -> Result: ...
    @overload
    async def predict(
        self, image: list[APicture] | tuple[APicture, ...], **options: Unpack[PredictOptions]
    ) -> list[Result]: ...
    async def predict(
        self, image: Picture | Sequence[Picture], **options: Unpack[PredictOptions]
    ) -> Result | list[Result]:
        """See `Client.predict`."""
        return await self._answer(await anyio.to_thread.run_sync(_inference, "/predict", image, options))

    @overload
    async def explain(self, image: Picture, **options: Unpack[ExplainOptions]) -> Result: ...
    @overload
    async def explain(
        self, image: list[APicture] | tuple[APicture, ...], **options: Unpack[ExplainOptions]
    ) -> list[Result]: ...
    async def explain(
        self, image: Picture | Sequence[Picture], **options: Unpack[ExplainOptions]
    ) -> Result | list[Result]:
        """See `Client.explain`."""
        return await self._answer(await anyio.to_thread.run_sync(_inference, "/explain", image, options))

    async def models(self) -> list[ModelBody]:
        """See `Client.models`."""
        return await self._answer(_models())

    async def model(self, name: str) -> ModelDetail:
        """See `Client.model`."""
        return await self._answer(_model(name))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _answer(self, call: _Call[Answer]) -> Answer:
        tries = self._tries()
        while True:
            with tries.another(), anyio.fail_after(tries.left()):
                response = await self._http.request(call.method, call.path, **_sent(call, tries))
                return _read(call, response, response.content)
            await anyio.sleep(tries.pause)


def _settings(url: str, key: str | None) -> dict[str, Any]:
    """Keyword arguments of httpx's clients.

    Raises:
        ValueError: the address is none of HTTP, or the key no key.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address of a service; such as http://localhost:8000 would be")
    key = (key or os.environ.get("GRADCAM_API_KEY", "")).strip()  # of a file, a line that ends
    if not re.fullmatch("[ -~]*", key):  # and is not told, since what is raised may get into a log
        raise ValueError("the API key has characters that none has: it is one line of ASCII")
    return {
        "base_url": address,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "verify": address.scheme == "https",  # certificates are read only for what has some, which takes 50 ms
        # As many as there are threads: of more than 20, httpcore closes one that is idle, or that another just took.
        "limits": httpx.Limits(),
    }


def _sent(call: _Call[Any], tries: Tries) -> dict[str, Any]:
    """Keyword arguments of a request."""
    headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if call.body else {})
    return {"content": call.body, "headers": headers, "timeout": tries.left()}


def _read(call: _Call[Answer], response: httpx.Response, content: bytes) -> Answer:
    if response.status_code != HTTPStatus.OK:
        raise problem_of(response.status_code, response.headers, content)
    try:
        return call.read(content)
    except ValueError as error:  # msgspec's and Pydantic's are such
        detail = f"{response.url} gives no answer of a gradcam service: {error}"
        raise Refused(response.status_code, "http", detail) from error


def _inference(
    path: str, image: Picture | Sequence[Picture], options: PredictOptions | ExplainOptions
) -> _Call[Result | list[Result]]:
    """The call about one image, whose answer is a result, or about several, whose answer is a list.

    It is JSON, though base64 is longer than the file, since text couldn't tell a class's index from its label.
    """
    several = image if isinstance(image, list | tuple) else None
    if "images" in options:
        raise TypeError("images are the first argument: one, or a list of several")
    if several is not None and not several:
        raise ValueError("an empty list has no image")
    images = [encoded(each) for each in ([cast("Picture", image)] if several is None else several)]
    body = msgspec.json.encode({"images": images, **options}, enc_hook=_plain)

    def read(content: bytes) -> Result | list[Result]:
        results = read_results(content)
        return results[0] if several is None else results

    return _Call("POST", path, read, body)


def _plain(value: object) -> object:
    """NumPy's numbers and arrays as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an option can't be a {type(value).__qualname__}")


def _models() -> _Call[list[ModelBody]]:
    from gradcam_service.api.schemas import ModelList  # which imports Pydantic

    return _Call("GET", "/models", lambda content: ModelList.model_validate_json(content).models)


def _model(name: str) -> _Call[ModelDetail]:
    from gradcam_service.api.schemas import ModelDetail

    return _Call("GET", f"/models/{quote(name, safe='@')}", ModelDetail.model_validate_json)
