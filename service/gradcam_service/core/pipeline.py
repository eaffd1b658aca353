"""From encoded pictures to their answers: decode, ask a worker, render."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeVar

from PIL import Image

from gradcam_service import metrics
from gradcam_service.core.options import Call, ExplainOptions, PredictOptions
from gradcam_service.core.render import drawings, highest
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import ModelLoading, Overloaded, ServiceError, TooManyTargets
from gradcam_service.images.canvas import backdrop
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import PreparedImage, prepare
from gradcam_service.registry.spec import Card, Model
from gradcam_service.settings import Settings
from gradcam_service.tasks import TASKS
from gradcam_service.worker.client import Answer, Inputs, Question, Timings

Outcome = TypeVar("Outcome")


class Engine(Protocol):
    """What computes: the workers, or a model loaded into this process."""

    async def ready_model(self, reference: str, deadline: float) -> tuple[Model, Card]:
        """See `Workers.ready_model`."""

    async def infer(
        self, model: str, digest: str, inputs: Inputs, question: Question | None, deadline: float
    ) -> tuple[Answer, Timings]:
        """See `Workers.infer`."""


class Observer(Protocol):
    """What wants to know how a request fares.

    Attributes:
        model: set to the name of the model that answers.
        method: set to the explanation method, empty for predictions.
    """

    model: str
    method: str

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """A stage took so long for one image, until now or ``end`` (of `time.perf_counter`)."""


class Unobserved:
    """An observer that looks away."""

    model = method = ""

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """Nobody wants to know."""


@dataclass(frozen=True)
class _Work:
    """What is to be done with every image of a call."""

    options: PredictOptions
    model: Model
    card: Card
    question: Question | None
    deadline: float
    seen: Observer


@dataclass(frozen=True)
class _Inferred:
    """An image's answer, not yet drawn; ``photo`` is what overlays are drawn on, where one is asked for."""

    prepared: PreparedImage
    photo: Image.Image | None
    answer: Answer


class Pipeline:
    """What turns calls into answers, for the lifetime of one process.

    Admission is by permit: an image is accepted if there is room for it, before it is decoded, and refused at once if
    there isn't.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._permits = settings.share(settings.queue_size)
        metrics.QUEUE_SIZE.set(self._permits)
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pixels")

    async def answer(self, call: Call[PredictOptions] | Call[ExplainOptions], seen: Observer) -> Answers:
        """Answer a call's images, all at once; what is wrong with one image is its answer and touches no other.

        Raises:
            ServiceError: what is wrong with the whole call.
        """
        options = call.options
        deadline = monotonic() + (options.timeout_ms or self._settings.timeout_ms) / 1e3
        with self._admitted(len(call.images)):
            while True:
                model, card = await self._engine.ready_model(options.model or self._settings.default_model, deadline)
                seen.model = model.name
                question = self._question(options, card)
                seen.method = question.method if question else ""
                work = _Work(options, model, card, question, deadline, seen)
                results = await self._answer_all(call.images, work)
                replaced = any(isinstance(result, ModelLoading) for result in results)
                if not replaced or monotonic() >= deadline:
                    return Answers(model, card, results)
                # The model was replaced or unloaded meanwhile. Again, so that one model answers the whole call.

    def require_room(self, images: int = 1) -> None:
        """See that so many images would be accepted now; asked before a body is read, it makes refusals cheap.

        Raises:
            Overloaded: they wouldn't.
        """
        if images > self._permits:
            raise Overloaded(f"the queue of {self._settings.queue_size} images is full; try again in a second")

    @contextmanager
    def _admitted(self, images: int) -> Iterator[None]:
        """Hold a permit for each image.

        Raises:
            Overloaded: there aren't enough.
        """
        self.require_room(images)
        self._permits -= images
        metrics.IN_FLIGHT.inc(images)
        try:
            yield
        finally:
            self._permits += images
            metrics.IN_FLIGHT.dec(images)

    def _question(self, options: PredictOptions, card: Card) -> Question | None:
        if not isinstance(options, ExplainOptions):
            return None
        card.check_question(options.method, options.layer, options.method_options)
        targets = options.target or []
        if len(targets) > self._settings.max_targets:
            raise TooManyTargets(
                f"{len(targets)} targets in one request; at most {self._settings.max_targets} are accepted"
            )
        indices = tuple(card.class_index(target) for target in targets)
        return Question(options.method, options.layer, indices, options.method_options)

    async def _answer_all(self, images: list[bytes], work: _Work) -> list[Result | ServiceError]:
        if not isinstance(work.options, ExplainOptions) or work.options.scale != "shared":
            return await asyncio.gather(*(_or_error(self._answer_one(data, work)) for data in images))
        inferred = await asyncio.gather(*(_or_error(self._infer(data, work)) for data in images))
        ends = (highest(one.answer, work.options) for one in inferred if isinstance(one, _Inferred))
        shared = max(ends, default=0.0)
        return await asyncio.gather(*(_or_error(self._draw(one, work, shared)) for one in inferred))

    async def _answer_one(self, data: bytes, work: _Work) -> Result:
        return await self._draw(await self._infer(data, work), work)

    async def _infer(self, data: bytes, work: _Work) -> _Inferred:
        in_thread = asyncio.get_running_loop().run_in_executor
        with _timed(work.seen, "decode"):
            prepared, photo = await in_thread(self._threads, self._look, data, work)
        answer, timings = await self._engine.infer(
            work.model.key, work.card.digest, {"image": prepared.pixels}, work.question, work.deadline
        )
        _record(work, timings)
        return _Inferred(prepared, photo, answer)

    async def _draw(self, inferred: _Inferred | ServiceError, work: _Work, shared: float | None = None) -> Result:
        if isinstance(inferred, ServiceError):
            raise inferred
        said = TASKS[work.card.task].predict(work.card, inferred.answer.scores, work.options.top_k)
        if not isinstance(work.options, ExplainOptions):
            return Result(said, [])
        in_thread = asyncio.get_running_loop().run_in_executor
        with _timed(work.seen, "render"):
            draws = drawings(work.card, inferred.answer, inferred.prepared, inferred.photo, work.options, shared)
            return Result(said, await asyncio.gather(*(in_thread(self._threads, draw) for draw in draws)))

    def _look(self, data: bytes, work: _Work) -> tuple[PreparedImage, Image.Image | None]:
        """What the model sees of an encoded picture, and what overlays are drawn on where one is asked for."""
        image = decode(data, self._settings.max_pixels)
        prepared = prepare(image, **work.card.preprocess.geometry())
        options = work.options
        if not isinstance(options, ExplainOptions) or "overlay" not in options.outputs:
            return prepared, None
        return prepared, backdrop(image, prepared, size=options.size, max_side=options.max_side)


async def _or_error(answer: Coroutine[Any, Any, Outcome]) -> Outcome | ServiceError:
    try:
        return await answer
    except ServiceError as error:
        return error


@contextmanager
def _timed(seen: Observer, stage: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seen.record(stage, perf_counter() - start)


def _record(work: _Work, timings: Timings) -> None:
    answered = perf_counter()
    computed = answered - timings.backward
    work.seen.record("queue", timings.queue, computed - timings.forward)
    work.seen.record("forward", timings.forward, computed)
    if work.question is not None:
        work.seen.record("backward", timings.backward, answered)
