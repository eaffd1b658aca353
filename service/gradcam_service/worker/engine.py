"""Engine of a worker: one batch through one model, inputs and questions in, scores and maps out, timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import msgspec
import numpy as np

from gradcam_service.errors import NonFinite, ServiceError, TooExpensive, UnsupportedMethod
from gradcam_service.explain import batch
from gradcam_service.explain.arrays import on_host
from gradcam_service.explain.costs import forward_passes, refusal_at
from gradcam_service.explain.methods import METHODS
from gradcam_service.question import Question
from gradcam_service.registry.served import ServedModel
from gradcam_service.targets import objective
from gradcam_service.tasks import TASKS
from gradcam_service.text import BEAM, TOKENS
from gradcam_service.worker.captions import spoken, word_scores
from gradcam_service.worker.messages import Answer, Inputs
from gradcam_service.worker.quality import measured, measuring_passes


class Pending:
    """An expensive explanation, worked out a step at a time so that others can be served in between."""

    def __init__(
        self, model: ServedModel, scores: np.ndarray, steps: batch.Explaining, tokens: tuple[int, ...] | None = None
    ) -> None:
        self._model = model
        self._scores = scores
        self._tokens = tokens
        self._steps = steps

    def advance(self) -> Answer | None:
        """Take one step; the answer if it was the last.

        Raises:
            NonFinite: the answer is not finite.
        """
        try:
            with self._model.network.undisturbed():
                next(self._steps)
        except StopIteration as finished:
            return _answer(self._model, self._scores, finished.value, self._tokens)
        return None

    def finish(self) -> Answer:
        """Take all steps that are left.

        Raises:
            NonFinite: the answer is not finite.
        """
        while (answer := self.advance()) is None:
            pass
        return answer


@dataclass(frozen=True)
class BatchResult:
    """Outcome of each image of a batch, in order, and seconds of the batch's two parts."""

    answers: list[Answer | Pending | ServiceError]
    forward: float
    backward: float


def run(
    model: ServedModel, inputs: Sequence[Inputs], questions: Sequence[Question | None], max_forward_passes: int
) -> BatchResult:
    """Predict a batch and explain those of its images that ask for it.

    Args:
        model: on its device.
        inputs: each image's, as the model's kind of input prepares them.
        questions: one for each image.
        max_forward_passes: what one explanation may cost.
    """
    with model.network.undisturbed():
        start = perf_counter()
        images, *others = model.batch(inputs)
        frontier, scores = model.network.predict(images, *others, alike=_alike(inputs, asked_text=bool(others)))
        tokens: Sequence[tuple[int, ...] | None] = [None] * len(inputs)
        refused: list[ServiceError | None] = [_too_wide(model, own, max_forward_passes) for own in inputs]
        if (text := model.card.text) is not None and model.card.speaks:
            widths = [0 if TOKENS in own or refused[row] else _beam(own) for row, own in enumerate(inputs)]
            others[0], scores = spoken(model.network, frontier, others[0], scores, widths, text, model.card.batch)
            tokens = [tuple(row) for row in others[0].tolist()]
        answered = word_scores(others[0], scores) if model.card.speaks else scores
        host_scores = np.asarray(on_host(answered))  # waits for the device
        classes = model.network.of_classes(scores)
        predicted = perf_counter()
        refused = [
            known or _refusal(model, question, max_forward_passes)
            for known, question in zip(refused, questions, strict=True)
        ]
        asked: list[Question | None] = [None] * len(questions)
        for row, question in enumerate(questions):
            if question is None or refused[row] or not np.isfinite(host_scores[row]).all():
                continue
            try:
                targeted = _targeted(model, question, host_scores[row], tokens[row])
                asked[row] = targeted if targeted.targets else None  # a caption without words
            except ServiceError as error:
                refused[row] = error
        network, chunk = model.network, model.card.batch
        explained = batch.explain(network, images, frontier, classes, asked, chunk, objective, tuple(others))
        for row, question in enumerate(asked):
            explanation = explained[row]
            if explanation is not None and question is not None and question.measure is not None:
                own = tuple(values[row : row + 1] for values in (images, *others))
                at_cut = frontier.rows([row]), classes[row : row + 1]
                explained[row] = measured(model, own, *at_cut, question, explanation)
    answers: list[Answer | Pending | ServiceError] = [
        refusal or _outcome(model, own, explanation, said)
        for refusal, own, explanation, said in zip(refused, host_scores, explained, tokens, strict=True)
    ]
    return BatchResult(answers, predicted - start, perf_counter() - predicted)


def _alike(inputs: Sequence[Inputs], asked_text: bool) -> list[int] | None:
    """For each image of a batch the first that is the same picture, whatever is asked about it; None if all differ.

    About one picture many texts may be asked by as many callers. Without texts, only who asks for several methods at
    once, of the very same numbers, is worth a look.
    """
    first: dict[object, int] = {}

    def looks(values: np.ndarray) -> object:
        return values.tobytes() if asked_text else id(values)

    alike = [
        first.setdefault(tuple((name, looks(own[name])) for name in own if name not in (TOKENS, BEAM)), row)
        for row, own in enumerate(inputs)
    ]
    return alike if len(first) < len(inputs) else None


def _beam(own: Inputs) -> int:
    """How many captions of an image are followed at once."""
    return int(own.get(BEAM, 1))


def _too_wide(model: ServedModel, own: Inputs, limit: int) -> TooExpensive | None:
    """What is wrong with a beam: each word of each caption that is followed is a pass of the network's head."""
    passes = _beam(own) * model.card.text.words if BEAM in own and model.card.text is not None else 0
    if passes <= limit:
        return None
    return TooExpensive(
        f"a beam of {_beam(own)} would take {passes} passes of this model's decoder; at most {limit} are allowed. "
        "A narrower beam would work"
    )


def _targeted(model: ServedModel, question: Question, scores: np.ndarray, tokens: tuple[int, ...] | None) -> Question:
    """The question, with what the model's task explains by default where it names nothing.

    Raises:
        UnknownTarget: the caption, whose tokens these are, has no such word.
    """
    task = TASKS[model.card.task]
    if tokens is not None:
        targets = task.settled(question.targets, tokens, model.card)
        return msgspec.structs.replace(question, targets=targets)
    if question.targets:
        return question
    return msgspec.structs.replace(question, targets=(task.default_target(model.card.of_classes(scores)),))


def _refusal(model: ServedModel, question: Question | None, limit: int) -> ServiceError | None:
    """What is wrong with a question, found before it could harm the batch."""
    if question is None:
        return None
    try:
        cut = model.network.cut_at(question.layer)
    except ServiceError as error:
        return error
    method = METHODS[question.method]
    if refused := refusal_at(method, cut):
        return UnsupportedMethod(refused)
    size, targets = model.card.preprocess.input_size, len(question.targets) or model.card.default_targets
    passes = forward_passes(method, model.network, question.layer, size, targets, question.options)
    if question.measure is not None:
        if question.measure.against and (refused := refusal_at(METHODS[question.measure.against], cut)):
            return UnsupportedMethod(f"quality_against {question.measure.against}: {refused}")
        passes += measuring_passes(model, question, targets)
    if passes <= limit:
        return None
    also = " and its quality" if question.measure else ""
    return TooExpensive(
        f"{question.method}{also} would take {passes} forward passes of this model; at most {limit} are allowed. "
        "Fewer targets, smaller options or another method would work"
    )


def _outcome(
    model: ServedModel,
    scores: np.ndarray,
    explanation: batch.Explanation | batch.Explaining | None,
    tokens: tuple[int, ...] | None,
) -> Answer | Pending | NonFinite:
    if not np.isfinite(scores).all():
        return _non_finite()
    if explanation is None:
        return Answer(scores, np.empty((0, 0, 0), np.float32), model.card.computed, tokens=tokens)
    if not isinstance(explanation, batch.Explanation):
        return Pending(model, scores, explanation, tokens)
    try:
        return _answer(model, scores, explanation, tokens)
    except NonFinite as error:
        return error


def _answer(
    model: ServedModel, scores: np.ndarray, explanation: batch.Explanation, tokens: tuple[int, ...] | None
) -> Answer:
    maps = np.asarray(explanation.maps)
    if not np.isfinite(maps).all():
        raise _non_finite()
    of, computed = explanation, model.card.computed
    return Answer(scores, maps, computed, of.targets, of.layer, of.quality, tokens)


def _non_finite() -> NonFinite:
    return NonFinite("the model's answer to this image is not finite (NaN or infinity); another image may work")
