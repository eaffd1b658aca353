"""The model of another server, asked over HTTP: what it scores pictures, and nothing else of it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Literal, NamedTuple

import httpx
import msgspec
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from gradcam_service.errors import ModelFailed, PredictorFailed, first_line
from gradcam_service.naming import complaint
from gradcam_service.registry.black_box import black_box
from gradcam_service.registry.built import Built
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.predictor_protocols import V1, V2, Encoding, PredictorProtocol, Request
from gradcam_service.registry.spec import Preprocess
from gradcam_service.registry.waits import waits_for

log = logging.getLogger(__name__)

_TOGETHER = 8
"""Images in one call."""
_AT_ONCE = 4
"""Calls that wait for their answers at a time."""
_READY_SECONDS = 900.0
"""That a predictor may take to become ready: KServe starts it and its explainer together."""
_TRIES = 3
_PASSING = (429, 502, 503, 504)
"""Statuses that may be others a moment later."""
_WAIT = 0.5
"""Seconds before the second try; twice as many before the third."""
_VERSIONS = 100
"""Of its model, that are told of; a server may as well name a version for each answer."""
_LONGEST_WAIT = 5.0
"""Seconds, of those that a predictor asks for."""


class Options(BaseModel):
    """``options`` in a ``model.yaml`` with ``source: predictor``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern="^https?://")
    model: str = Field(min_length=1)
    protocol: Literal["v1", "v2"] | None = None
    encoding: Encoding = "png"
    preprocess: Literal["imagenet"] | None = None
    seconds: float = Field(20.0, gt=0, le=100)
    """That a call may take with all its tries, while the worker waits: less than GRADCAM_TURN_SECONDS."""


def predictor(folder: ModelFolder) -> Built:
    """Wait until a predictor is ready, and build a black box that asks it.

    Scores are what the predictor answers, whether probabilities or not. Its digest is of ``model.yaml`` and of what the
    predictor says of its model now; what is changed behind that later is not seen before it is loaded again.

    Raises:
        ModelFailed: it does not become ready, or takes or answers something else.
        PredictorFailed: it does not answer a picture.
    """
    options = _options(folder)
    with httpx.Client(base_url=options.url, timeout=options.seconds) as client:
        protocol, said = _spoken(client, options)
    preprocess = folder.spec.preprocess or _preprocess(protocol, options)
    module = Predictor(protocol, options.url, options.seconds, preprocess)
    content = hashlib.sha256(folder.spec.model_dump_json().encode() + said).hexdigest()
    reason = f"the predictor at {options.url} answers with scores, and has no gradients"
    return Built(black_box(module, preprocess, (module.classes,), reason), folder.labels() or [], preprocess, content)


def wait_until_ready(folder: ModelFolder) -> None:
    """Return when the predictor of a model says that it is ready.

    Raises:
        ModelFailed: it does not become ready.
    """
    options = _options(folder)
    with httpx.Client(base_url=options.url, timeout=options.seconds) as client:
        _spoken(client, options)


def _options(folder: ModelFolder) -> Options:
    try:
        return Options.model_validate(folder.spec.options)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelFailed(f"options.{first['loc'][0]}: {complaint(first, Options)}") from error


class Answer(NamedTuple):
    """Answer of a predictor."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Predictor(nn.Module):
    """Maps images (N, C, H, W) float32 after ``preprocess`` to the scores (N, classes) that a predictor has for them.

    Args:
        protocol: by which it is asked.
        url: of the server.
        seconds: that a call may take with all its tries.
        preprocess: what the images have been through.

    Attributes:
        classes: how many scores it answers with.

    Raises:
        PredictorFailed: it does not answer an image.
    """

    def __init__(self, protocol: PredictorProtocol, url: str, seconds: float, preprocess: Preprocess) -> None:
        super().__init__()
        self._protocol, self._url, self._seconds = protocol, url, seconds
        self._client = httpx.Client(base_url=url)
        self._calls = ThreadPoolExecutor(_AT_ONCE, "predictor")
        self._mean, self._std = (np.array(of, np.float32)[:, None, None] for of in (preprocess.mean, preprocess.std))
        empty = np.zeros((1, len(preprocess.mean), *preprocess.input_size), np.float32)
        self._versions = set[str]()  # of its model, that have answered
        self.classes = 0  # until it has said
        self.classes = self._scores(empty).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Ask about all images, a few in each call.

        Raises:
            PredictorFailed: it does not answer, or with something else.
        """
        parts = [part.detach().cpu().numpy() for part in torch.split(images, _TOGETHER)]
        rows = list(self._calls.map(self._scores, parts))
        return torch.from_numpy(np.concatenate(rows)).to(images.device)

    def _scores(self, images: np.ndarray) -> np.ndarray:
        """Scores (N, classes) float32 of a few images."""
        given = images if self._protocol.normalised else images * self._std + self._mean
        answer = self._answer(self._protocol.request(given))
        try:
            scores, version = self._protocol.scored(answer.content, answer.headers)
        except (KeyError, TypeError, ValueError) as error:
            raise PredictorFailed(
                f"the predictor at {self._url} answers with no scores: {first_line(error)}"
            ) from error
        if scores.ndim != 2 or len(scores) != len(images):
            raise PredictorFailed(
                f"the predictor at {self._url} answers {len(images)} images with {scores.shape}; a row of scores for "
                "each would work"
            )
        if self.classes not in (0, scores.shape[1]):
            raise PredictorFailed(
                f"the predictor at {self._url} answers with {scores.shape[1]} scores for each image, where it had "
                f"{self.classes} when it was loaded; it has another model now, so load this one again"
            )
        self._note(version)
        return scores

    def _note(self, version: str) -> None:
        """Tell of each version after the first: a canary, or another model, of which the digest knows nothing."""
        if version and version not in self._versions and len(self._versions) < _VERSIONS:
            if self._versions:
                log.warning("the predictor at %s answers by version %s of its model, too", self._url, version)
            self._versions.add(version)

    def _answer(self, request: Request) -> Answer:
        """Its answer, after some tries where what keeps it from answering may pass."""
        end, pause, said = monotonic() + self._seconds, 0.0, ""
        for number in range(_TRIES):
            if monotonic() + pause >= end:
                break
            sleep(pause)
            pause = _WAIT * 2**number
            try:
                answer = self._post(request, end)
            except httpx.TimeoutException:
                said = f"nothing within {self._seconds:g} s"
                break
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {first_line(error)}"
                continue
            if answer.status == 200:
                return answer
            said = f"{answer.status} {answer.content[:300].decode(errors='replace')}"
            if answer.status not in _PASSING:
                break
            asked = answer.headers.get("Retry-After", "")
            pause = max(pause, min(_LONGEST_WAIT, float(asked)) if asked.isdecimal() else 0.0)
        raise PredictorFailed(f"the predictor at {self._url} does not answer: {said}")

    def _post(self, request: Request, end: float) -> Answer:
        """One try, however slowly the answer comes: httpx bounds only the time between two pieces of it.

        Raises:
            httpx.TransportError: there is no answer, or not all of it before ``end``.
        """
        left = max(0.001, end - monotonic())
        pieces = []
        headers = dict(request.headers)
        with self._client.stream(
            "POST", request.path, content=request.content, headers=headers, timeout=left
        ) as answer:
            for piece in answer.iter_bytes():
                pieces.append(piece)
                if monotonic() > end:
                    raise httpx.ReadTimeout("the answer did not end")
        return Answer(answer.status_code, answer.headers, b"".join(pieces))


def _spoken(client: httpx.Client, options: Options) -> tuple[PredictorProtocol, bytes]:
    """The protocol by which the predictor's model says that it is ready, waiting until it does; and what it says of it.

    Raises:
        ModelFailed: it does not become ready.
    """
    end, said, told = monotonic() + _READY_SECONDS, "", ""
    while monotonic() < end:
        for name in (options.protocol,) if options.protocol else ("v2", "v1"):
            path = f"/{name}/models/{options.model}" + ("/ready" if name == "v2" else "")
            try:
                answer = client.get(path)
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {first_line(error)}"
                continue
            if answer.status_code == 200:
                v1 = V1(options.model, options.encoding)
                return (v1, answer.content) if name == "v1" else _described(client, options.model)
            said = f"GET {path} answers {answer.status_code}"
        if said != told:
            told = said
            log.warning("waiting for the predictor at %s to be ready: %s", options.url, said)
        waits_for(f"the predictor at {options.url} to be ready: {said}")  # each time, as it may be told not to wait
        sleep(1)
    raise ModelFailed(f"the predictor at {options.url} did not become ready within {_READY_SECONDS:g} s: {said}")


def _described(client: httpx.Client, model: str) -> tuple[V2, bytes]:
    """What the predictor says of its model, and of itself."""

    def told(path: str) -> bytes:
        answer = client.get(path)
        answer.raise_for_status()
        return answer.content

    metadata, server = told(f"/v2/models/{model}"), msgspec.json.decode(told("/v2"))
    return V2.described(model, msgspec.json.decode(metadata), server.get("extensions", [])), metadata


def _preprocess(protocol: PredictorProtocol, options: Options) -> Preprocess:
    """The way from a picture to what the predictor is sent, where ``model.yaml`` doesn't say it.

    Raises:
        ModelFailed: it takes normalised numbers, and nothing says how they are.
    """
    if protocol.normalised and options.preprocess is None:
        raise ModelFailed(
            "the predictor takes floats, and nothing says how pictures become those: preprocess in model.yaml does, or "
            "gradcam kserve --preprocess imagenet"
        )
    return Preprocess.imagenet(protocol.input_size or (224, 224))
