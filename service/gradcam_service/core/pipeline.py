"""From encoded pictures to their answers: decode, ask a worker, render."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar

from gradcam_service.core.admission import Admission, Capacity
from gradcam_service.core.drawing_bound import Size, check, drawn_pixels, held_bytes
from gradcam_service.core.options import Call, ExplainOptions, Image, PredictOptions
from gradcam_service.core.questions import inputs_beside, is_iterative, question
from gradcam_service.core.render import Renderer
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import Internal, ModelLoading, ServiceError
from gradcam_service.inputs._sent import received, size_of
from gradcam_service.question import Question
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model
from gradcam_service.tasks import TASKS
from gradcam_service.worker.client import Answer, Inputs, Timings

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")


class Engine(Protocol):
    """Engine that computes answers: the workers, or a model loaded into this process."""

    async def ready_model(self, reference: str, deadline: float) -> tuple[Model, Card]:
        """See `Workers.ready_model`."""

    async def infer(
        self, model: str, digest: str, inputs: Inputs, question: Question | None, deadline: float
    ) -> tuple[Answer, Timings]:
        """See `Workers.infer`."""


class Observer(Protocol):
    """Observer of one request: told which model answers it and how long its stages take.

    Attributes:
        request_id: what the log calls the request by.
        model: set to the name of the model that answers.
        version: set to its version.
        method: set to the explanation method, empty for predictions.
        iterative: set to whether any of its images takes passes of its own.
    """

    request_id: str
    model: str
    version: str
    method: str
    iterative: bool

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """A stage took so long for one image, until now or ``end`` (of `time.perf_counter`)."""


class Unobserved:
    """An observer that looks away."""

    request_id = model = version = method = ""
    iterative = False

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """Nobody wants to know."""


@dataclass(frozen=True)
class _Work:
    """What is asked of an image, what goes to the model beside it, and the context of its call."""

    options: PredictOptions
    model: Model
    card: Card
    question: Question | None
    beside: Inputs
    deadline: float
    admission: Admission
    seen: Observer


_NOT_WORTH_A_LOOK = 2**22
"""Pixels; so many may be drawn of any images, without a look at how large they are."""


class _Undrawn(NamedTuple):
    """An image's answer, and what draws its explanations; None where there are none to draw."""

    result: Result
    renderer: Renderer | None


class Pipeline:
    """Pipeline of one process: decodes the images of a call, has an engine answer them, and renders the answers.

    Args:
        engine: computes.
        capacity: what the process may hold; an image is accepted before it is decoded if there is room for it, and
            refused at once if there isn't.
    """

    def __init__(self, engine: Engine, capacity: Capacity) -> None:
        self._engine = engine
        self._settings = capacity.settings
        self.capacity = capacity

    async def answer(
        self, call: Call[PredictOptions] | Call[ExplainOptions], admission: Admission, seen: Observer
    ) -> Answers:
        """Answer a call's images, all at once; what is wrong with one image is its answer and touches no other.

        Raises:
            ServiceError: what is wrong with the whole call.
        """
        deadline = monotonic() + (call.options.timeout_ms or self._settings.timeout_ms) / 1e3
        admission.take_images(len(call.images))
        held = 0
        try:
            while True:
                wanted = call.options.model or self._settings.default_model
                model, card = await self._engine.ready_model(wanted, deadline)
                seen.model, seen.version = model.name, model.version
                asks = question(call.options, card, self._settings.max_targets)
                seen.method = asks.method if asks else ""
                # Where each image has options of its own, its text is among these.
                alike = inputs_beside(call.options, card) if call.own is None else {}
                whole = _Work(call.options, model, card, asks, alike, deadline, admission, seen)
                works = [whole] * len(call.images) if call.own is None else [self._own(whole, own) for own in call.own]
                asked = (work.question for work in works if isinstance(work, _Work))
                seen.iterative = any(is_iterative(each) for each in asked if each)
                sound = [
                    (image, work) for image, work in zip(call.images, works, strict=True) if isinstance(work, _Work)
                ]
                needed = await self._held_bytes(sound, whole)
                admission.take_bytes(needed - held)
                held = needed
                answered = iter(await self._answer_all(sound))
                results = [next(answered) if isinstance(work, _Work) else work for work in works]
                replaced = any(isinstance(result, ModelLoading) for result in results)
                if not replaced or monotonic() >= deadline:
                    return Answers(model, card, results)
                # The model was replaced or unloaded meanwhile. Again, so that one model answers the whole call.
        finally:
            admission.return_images()

    def _own(self, whole: _Work, options: PredictOptions) -> _Work | ServiceError:
        """What options of its own ask of an image, or what is wrong with them: its answer."""
        try:
            asks = question(options, whole.card, self._settings.max_targets)
            return replace(whole, options=options, question=asks, beside=inputs_beside(options, whole.card))
        except ServiceError as error:
            return error

    async def _held_bytes(self, pairs: Sequence[tuple[Image, _Work]], whole: _Work) -> int:
        """How many bytes the answer may take.

        Raises:
            AnswerTooLarge: they don't fit into an answer.
        """
        card, limit = whole.card, self._settings.max_drawn_pixels
        drawn = [(work.options, image) for image, work in pairs if isinstance(work.options, ExplainOptions)]
        asked = [(options, (options.max_side, options.max_side)) for options, _ in drawn]
        if drawn_pixels(asked, card) > min(_NOT_WORTH_A_LOOK, limit):

            def measured() -> list[tuple[ExplainOptions, Size]]:
                return [(options, size_of(image, card.input)) for options, image in drawn]

            asked = await whole.admission.run(whole.deadline, measured)
        check(asked, card, limit)
        return held_bytes(asked, card)

    async def _answer_all(self, pairs: Sequence[tuple[Image, _Work]]) -> list[Result | ServiceError]:
        works = [work for _, work in pairs]
        if not any(map(_shares_scale, works)):
            return await _each((self._answer_one(*pair) for pair in pairs), works)
        undrawn = await _each((self._infer(*pair) for pair in pairs), works)
        ends = [
            work.admission.run(work.deadline, partial(one.renderer.shared_high, one.result.explanations))
            for one, work in zip(undrawn, works, strict=True)
            if isinstance(one, _Undrawn) and one.renderer is not None and _shares_scale(work)
        ]
        shared = max(await asyncio.gather(*ends), default=0.0)
        drawn = (
            self._draw(one, work, shared if _shares_scale(work) else None)
            for one, work in zip(undrawn, works, strict=True)
        )
        return await _each(drawn, works)

    async def _answer_one(self, image: Image, work: _Work) -> Result:
        return await self._draw(await self._infer(image, work), work)

    async def _infer(self, sent: Image, work: _Work) -> _Undrawn:
        with _timed(work.seen, "decode"):
            inputs, renderer, warnings = await work.admission.run(work.deadline, partial(self._look, sent, work))
        answer, timings = await self._engine.infer(
            work.model.key, work.card.digest, inputs, work.question, work.deadline
        )
        _record(work, timings)
        spoken = {} if answer.tokens is None else {"tokens": answer.tokens}
        said = TASKS[work.card.task].predict(work.card, answer.scores, work.options.top_k, **spoken)
        explanations = [] if renderer is None else renderer.undrawn(answer)
        return _Undrawn(Result(said, answer.scores, explanations, answer.computed, warnings), renderer)

    async def _draw(self, undrawn: _Undrawn | ServiceError, work: _Work, shared: float | None = None) -> Result:
        if isinstance(undrawn, ServiceError):
            raise undrawn
        result, renderer = undrawn
        if renderer is None:
            return result
        with _timed(work.seen, "render"):
            draws = (partial(renderer.drawn, each, shared) for each in result.explanations)
            drawn = await asyncio.gather(*(work.admission.run(work.deadline, draw) for draw in draws))
            return replace(result, explanations=drawn)

    def _look(self, sent: Image, work: _Work) -> tuple[Inputs, Renderer | None, tuple[str, ...]]:
        """What the model takes of what was sent, what will draw on it, and warnings about it."""
        card, options = work.card, work.options
        taken = received(sent, card.input, card.preprocess, self._settings.max_pixels)
        renderer = Renderer.of(taken, options, card) if isinstance(options, ExplainOptions) else None
        return {**taken.inputs, **work.beside}, renderer, taken.warnings


def _shares_scale(work: _Work) -> bool:
    return isinstance(work.options, ExplainOptions) and work.options.scale == "shared"


async def _each(
    answers: Iterable[Coroutine[Any, Any, Outcome]], works: Sequence[_Work]
) -> list[Outcome | ServiceError]:
    """What becomes of each image; whatever is wrong with one, the others are answered."""

    async def or_error(answer: Coroutine[Any, Any, Outcome], work: _Work) -> Outcome | ServiceError:
        try:
            return await answer
        except ServiceError as error:
            return error
        except Exception:  # of a library or a plugin: its image has an answer and the log the reason
            log.exception("image failed", extra={"fields": {"request_id": work.seen.request_id}})
            return Internal("the service failed on this image; its log has the reason")

    return await asyncio.gather(*map(or_error, answers, works))


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
