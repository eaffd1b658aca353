"""From encoded pictures to their answers: decode, ask a worker, render."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeVar

from PIL.Image import Image as Photo

from gradcam_service.core.admission import Admission, Capacity
from gradcam_service.core.drawing_bound import Size, check, drawn_pixels, held_bytes
from gradcam_service.core.options import Call, ExplainOptions, Image, PredictOptions, check_target_count
from gradcam_service.core.render import drawings, highest
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import Internal, ModelLoading, ServiceError, UnsupportedMethod
from gradcam_service.explain.methods import COMPARED, DEFAULT, METHODS
from gradcam_service.images.canvas import backdrop
from gradcam_service.images.geometry import PreparedImage
from gradcam_service.inputs._sent import received, size_of
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model
from gradcam_service.targets import TARGETS, Target, read
from gradcam_service.tasks import TASKS, beside
from gradcam_service.worker.client import Answer, Inputs, Measure, Question, Timings

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
    """

    request_id: str
    model: str
    version: str
    method: str

    def record(self, stage: str, seconds: float, end: float | None = None) -> None:
        """A stage took so long for one image, until now or ``end`` (of `time.perf_counter`)."""


class Unobserved:
    """An observer that looks away."""

    request_id = model = version = method = ""

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


@dataclass(frozen=True)
class _Seen:
    """What is kept of an image while its answer is computed.

    Attributes:
        prepared: what the model sees.
        photo: what overlays are drawn on, where one is asked for.
        warnings: about the image.
    """

    prepared: PreparedImage
    photo: Photo | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Inferred:
    """An image's answer, not yet drawn."""

    image: _Seen
    answer: Answer


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
                question = self._question(call.options, card)
                seen.method = question.method if question else ""
                # Where each image has options of its own, its text is among these.
                alike = _beside(call.options, card) if call.own is None else {}
                whole = _Work(call.options, model, card, question, alike, deadline, admission, seen)
                works = [whole] * len(call.images) if call.own is None else [self._own(whole, own) for own in call.own]
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
            card = whole.card
            question = self._question(options, card)
            return replace(whole, options=options, question=question, beside=_beside(options, card))
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

    def _question(self, options: PredictOptions, card: Card) -> Question | None:
        if not isinstance(options, ExplainOptions):
            return None
        method = options.explained_by(card)
        card.check_question(method, options.layer, options.method_options)
        targets = options.target or []
        check_target_count(len(targets), self._settings.max_targets)
        read_targets = tuple(read(target, card) for target in targets)
        measure = _measure(options, method, card) if options.quality else None
        _check_targets(method, read_targets, card)
        if measure and measure.against:
            _check_targets(measure.against, read_targets, card)
        return Question(method, options.layer, read_targets, options.method_options, measure)

    async def _answer_all(self, pairs: Sequence[tuple[Image, _Work]]) -> list[Result | ServiceError]:
        works = [work for _, work in pairs]
        if not any(map(_shares_scale, works)):
            return await _each((self._answer_one(*pair) for pair in pairs), works)
        inferred = await _each((self._infer(*pair) for pair in pairs), works)
        ends = [
            work.admission.run(work.deadline, partial(highest, work.card, one.answer, work.options))
            for one, work in zip(inferred, works, strict=True)
            if isinstance(one, _Inferred) and isinstance(work.options, ExplainOptions) and _shares_scale(work)
        ]
        shared = max(await asyncio.gather(*ends), default=0.0)
        drawn = (
            self._draw(one, work, shared if _shares_scale(work) else None)
            for one, work in zip(inferred, works, strict=True)
        )
        return await _each(drawn, works)

    async def _answer_one(self, image: Image, work: _Work) -> Result:
        return await self._draw(await self._infer(image, work), work)

    async def _infer(self, sent: Image, work: _Work) -> _Inferred:
        with _timed(work.seen, "decode"):
            inputs, image = await work.admission.run(work.deadline, partial(self._look, sent, work))
        answer, timings = await self._engine.infer(
            work.model.key, work.card.digest, inputs, work.question, work.deadline
        )
        _record(work, timings)
        return _Inferred(image, answer)

    async def _draw(self, inferred: _Inferred | ServiceError, work: _Work, shared: float | None = None) -> Result:
        if isinstance(inferred, ServiceError):
            raise inferred
        scores = inferred.answer.scores
        spoken = {} if (tokens := inferred.answer.tokens) is None else {"tokens": tokens}
        said = TASKS[work.card.task].predict(work.card, scores, work.options.top_k, **spoken)
        if not isinstance(work.options, ExplainOptions):
            return Result(said, scores, [], inferred.answer.computed, inferred.image.warnings)
        with _timed(work.seen, "render"):
            image = inferred.image
            draws = drawings(work.card, inferred.answer, image.prepared, image.photo, work.options, shared)
            in_turn = partial(work.admission.run, work.deadline)
            drawn = await asyncio.gather(*map(in_turn, draws))
            return Result(said, scores, drawn, inferred.answer.computed, image.warnings)

    def _look(self, sent: Image, work: _Work) -> tuple[Inputs, _Seen]:
        """What the model takes of what was sent, and what is kept of it.

        The original, which may be as large as a picture can be, is not kept while the worker is waited for.
        """
        card, options, photo = work.card, work.options, None
        taken = received(sent, card.input, card.preprocess, self._settings.max_pixels)
        if isinstance(options, ExplainOptions) and "overlay" in options.outputs:
            photo = backdrop(taken.original(), taken.prepared, size=options.size, max_side=options.max_side)
        return {**taken.inputs, **work.beside}, _Seen(taken.prepared, photo, taken.warnings)


def _beside(options: PredictOptions, card: Card) -> Inputs:
    return beside(card.task, card.text, options.texts, options.numbers)


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


def _measure(options: ExplainOptions, method: str, card: Card) -> Measure:
    """What is to be measured of a method's maps: compared with the other that is named, or with one that there is.

    Raises:
        UnsupportedMethod: the model can't be explained by the one that is named.
    """
    if options.quality_against is not None:
        card.check_question(options.quality_against, options.layer, {})
        return Measure(options.quality_steps, options.quality_against)
    others = (name for name in COMPARED if name != method and name in card.method_names())
    return Measure(options.quality_steps, next(others, ""))


def _check_targets(method: str, targets: Sequence[Target], card: Card) -> None:
    """Refuse what the method can't explain.

    Raises:
        UnsupportedMethod: saying why, and what can.
    """
    if reason := METHODS[method].classes_only:
        for target in targets:
            kind = TARGETS[target.kind]
            if not kind.is_logit:
                raise UnsupportedMethod(
                    f"{method} can't explain {kind.name(target.value, card)}: {reason}; {DEFAULT} can"
                )
