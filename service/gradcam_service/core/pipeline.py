"""From encoded pictures to their answers: decode, ask a worker, render."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter

from PIL import Image

from gradcam_service import metrics
from gradcam_service.api.answers import drawings, predictions
from gradcam_service.api.bodies import Call
from gradcam_service.api.observe import Observation
from gradcam_service.api.schemas import ExplainOptions, ExplanationBody, Prediction, PredictOptions
from gradcam_service.errors import ModelLoading, Overloaded, ServiceError, TooManyTargets
from gradcam_service.images.canvas import backdrop
from gradcam_service.images.decode import decode
from gradcam_service.images.geometry import PreparedImage, prepare
from gradcam_service.registry.spec import Card, Model
from gradcam_service.settings import Settings
from gradcam_service.worker.client import Question, Timings, Workers


@dataclass(frozen=True)
class Answered:
    """One image's answer; no explanations where only predictions were asked for."""

    predictions: list[Prediction]
    explanations: list[ExplanationBody]


@dataclass(frozen=True)
class _Task:
    """What is to be done with every image of a call."""

    options: PredictOptions
    model: Model
    card: Card
    question: Question | None
    deadline: float
    seen: Observation


class Pipeline:
    """What turns calls into answers, for the lifetime of one API process.

    Admission is by permit: an image is accepted if there is room for it, before it is decoded, and refused at once if
    there isn't.
    """

    def __init__(self, workers: Workers, settings: Settings) -> None:
        self._workers = workers
        self._settings = settings
        self._permits = settings.share(settings.queue_size)
        metrics.QUEUE_SIZE.set(self._permits)
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pixels")

    async def answer(
        self, call: Call[PredictOptions] | Call[ExplainOptions], seen: Observation
    ) -> tuple[Model, Card, list[Answered | ServiceError]]:
        """Answer a call's images, all at once; what is wrong with one image is its answer and touches no other.

        Raises:
            ServiceError: what is wrong with the whole call.
        """
        options = call.options
        deadline = monotonic() + (options.timeout_ms or self._settings.timeout_ms) / 1e3
        with self._admitted(len(call.images)):
            while True:
                model, card = await self._workers.ready_model(options.model or self._settings.default_model, deadline)
                seen.model = model.name
                question = self._question(options, card)
                seen.method = question.method if question else ""
                task = _Task(options, model, card, question, deadline, seen)
                results = await asyncio.gather(*(self._answer_or_error(data, task) for data in call.images))
                replaced = any(isinstance(result, ModelLoading) for result in results)
                if not replaced or monotonic() >= deadline:
                    return model, card, results
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

    async def _answer_or_error(self, data: bytes, task: _Task) -> Answered | ServiceError:
        try:
            return await self._answer_one(data, task)
        except ServiceError as error:
            return error

    async def _answer_one(self, data: bytes, task: _Task) -> Answered:
        in_thread = asyncio.get_running_loop().run_in_executor
        with task.seen.timed("decode"):
            prepared, photo = await in_thread(self._threads, self._look, data, task)
        answer, timings = await self._workers.infer(
            task.model.key, task.card.digest, prepared.pixels, task.question, task.deadline
        )
        _record(task, timings)
        best = predictions(task.card, answer.scores, task.options.top_k)
        if not isinstance(task.options, ExplainOptions):
            return Answered(best, [])
        with task.seen.timed("render"):
            draws = drawings(task.card, answer, prepared, photo, task.options)
            return Answered(best, await asyncio.gather(*(in_thread(self._threads, draw) for draw in draws)))

    def _look(self, data: bytes, task: _Task) -> tuple[PreparedImage, Image.Image | None]:
        """What the model sees of an encoded picture, and what overlays are drawn on where one is asked for."""
        image = decode(data, self._settings.max_pixels)
        prepared = prepare(image, **task.card.preprocess.geometry())
        options = task.options
        if not isinstance(options, ExplainOptions) or "overlay" not in options.outputs:
            return prepared, None
        return prepared, backdrop(image, prepared, size=options.size, max_side=options.max_side)


def _record(task: _Task, timings: Timings) -> None:
    answered = perf_counter()
    computed = answered - timings.backward
    task.seen.record("queue", timings.queue, computed - timings.forward)
    task.seen.record("forward", timings.forward, computed)
    if task.question is not None:
        task.seen.record("backward", timings.backward, answered)
