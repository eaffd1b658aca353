"""Predict and explain in this process, without a server: the same pipeline, on a model loaded here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gradcam_service.compiled.form import CompiledForm
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import Call, ExplainOptions, PredictOptions
from gradcam_service.core.options import Image as Picture
from gradcam_service.core.pipeline import Pipeline, Unobserved
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import ModelFailed, ServiceError, UnsupportedMethod, in_one_line
from gradcam_service.explain.costs import forward_passes, refusal_at
from gradcam_service.explain.methods import METHODS
from gradcam_service.kinds import load_plugins
from gradcam_service.question import Question
from gradcam_service.registry.card import Card
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.listing import Model, resolve
from gradcam_service.registry.loading import load, load_form
from gradcam_service.registry.repository import Entry, scan
from gradcam_service.registry.served import ServedModel
from gradcam_service.runtime._threads import limit
from gradcam_service.settings import Settings
from gradcam_service.text import TOKENS
from gradcam_service.worker.engine import BatchResult, Pending, run
from gradcam_service.worker.messages import Answer, Inputs, Timings
from gradcam_service.worker.placement import pick_device

if TYPE_CHECKING:
    from gradcam_service.registry.loader import LoadedModel

_PATIENCE = 24 * 3600 * 1000
"""Milliseconds that a picture may take: whoever waits for a command can end it."""


@dataclass(frozen=True)
class Local:
    """A model loaded into this process: a `gradcam_service.core.pipeline.Engine`, and what asks it.

    Attributes:
        entry: the model, as the repository lists it.
        progress: told how many forward passes of explanations have been done since it was told last.
    """

    entry: Model
    model: ServedModel
    settings: Settings
    progress: Callable[[int], object] = lambda _: None

    def in_torch(self, what: str) -> LoadedModel:
        """The model, where torch computes it.

        Args:
            what: is done with it that needs that.

        Raises:
            UnsupportedMethod: it is compiled.
        """
        from gradcam_service.registry.loader import LoadedModel

        full = self._full
        if not isinstance(full, LoadedModel):
            made_from = full.card.weights
            raise UnsupportedMethod(
                f"{what} needs the full model; {self.key} is a compiled one, made from {made_from}, which would work"
            )
        return full

    @cached_property
    def _full(self) -> ServedModel:
        """The model itself, which is loaded where its compiled form is here."""
        return _loaded(self._found(), self.settings) if isinstance(self.model, CompiledForm) else self.model

    def _answering(self, *questions: Question | None) -> ServedModel:
        """What answers all of these: what is here, or the full model, which is loaded then."""
        return self.model if all(map(self.model.answers, questions)) else self._full

    def folder(self) -> ModelFolder:
        """What the model was loaded from.

        Raises:
            ModelFailed: it is gone, or can't be fetched any more.
        """
        entry = self._found()
        return ModelFolder(entry.spec(), entry.folder(), self.settings.python_path)

    def _found(self) -> Entry:
        """Where it is described.

        Raises:
            ModelFailed: nowhere any more.
        """
        listing = scan(self.settings.model_repository, self.settings.embedded)
        entry = next((entry for entry in listing if entry.key == self.key), None)
        if entry is None:
            raise ModelFailed(f"{self.key} is not in the repository any more")
        return entry

    @property
    def key(self) -> str:
        """``name@version``."""
        return self.entry.key

    def predict(self, data: Picture, options: PredictOptions) -> Result:
        """What the model says about an encoded picture.

        Raises:
            ServiceError: what is wrong with it or the options.
        """
        return self._ask(data, options)

    def explain(self, data: Picture, options: ExplainOptions) -> Result:
        """Where the model looks for each target in an encoded picture.

        Raises:
            ServiceError: what is wrong with it or the options.
        """
        return self._ask(data, options)

    def passes(self, options: ExplainOptions, methods: Iterable[str]) -> int:
        """Forward passes that these methods take to explain one picture, but for those that can't at that layer.

        Raises:
            UnknownLayer: the model has no such layer.
        """
        given, targets = options.method_options, len(options.target or ())
        known = [name for name in methods if name in METHODS]
        cut = self._answering(*(Question(name, options.layer) for name in known)).network.cut_at(options.layer)
        able = [name for name in known if not (refusal_at(METHODS[name], cut) or METHODS[name].wrong_with(given))]
        return sum(self._passes(name, options.layer, targets, given) for name in able)

    def pace(self, passes: int) -> float:
        """Seconds that a forward pass takes of so many, measured on as many as are done together.

        Raises:
            ModelFailed: the model can't do them.
        """
        card = self.model.card
        blank = np.zeros((*card.preprocess.input_size, card.input.count), np.uint8)
        together = max(1, min(passes, card.batch))
        text = {} if card.text is None else {TOKENS: card.text.example()}
        inputs = [{"image": blank, **text}] * together
        start = perf_counter()
        with self._blamed(), self.model.network.undisturbed():
            self.model.network.predict(*self.model.batch(inputs))[1].tolist()  # waits for the device
        return (perf_counter() - start) / together

    async def ready_model(self, reference: str, deadline: float) -> tuple[Model, Card]:
        """The model, whatever it is called: there is no other."""
        return self.entry, self.model.card

    async def infer(
        self, model: str, digest: str, inputs: Inputs, question: Question | None, deadline: float
    ) -> tuple[Answer, Timings]:
        """Compute it here and now.

        Raises:
            ServiceError: why there is no answer.
        """
        result = self._run(self._answering(question), inputs, [question])
        (answer,) = result.answers
        finished = self._worked_out(answer, question)
        if isinstance(finished, ServiceError):
            raise finished
        return finished, Timings(0.0, result.forward, result.backward)

    def explained(self, inputs: Inputs, questions: Sequence[Question | None]) -> Iterator[Answer | ServiceError]:
        """Answer questions about one image, in order, together as far as they can be.

        Raises:
            ModelFailed: the model fails on the image.
        """
        begun: dict[int, Answer | Pending | ServiceError] = {}
        by_full = [row for row, question in enumerate(questions) if not self.model.answers(question)]
        by_what_is_here = sorted({*range(len(questions))} - {*by_full})
        for rows in (by_what_is_here, by_full):
            for first in range(0, len(rows), self.model.card.batch):
                some = rows[first : first + self.model.card.batch]
                asked = [questions[row] for row in some]
                begun.update(zip(some, self._run(self._answering(*asked), inputs, asked).answers, strict=True))
        for row, question in enumerate(questions):
            yield self._worked_out(begun[row], question)

    def _run(self, model: ServedModel, inputs: Inputs, questions: Sequence[Question | None]) -> BatchResult:
        """Answer questions about one image, but for the steps of those that take several."""
        with self._blamed():
            return run(model, [inputs] * len(questions), questions, self.settings.max_forward_passes)

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Blame the model for what it raises in it, whatever its operators do.

        Raises:
            ModelFailed: something but a `ServiceError` was raised.
        """
        try:
            yield
        except ServiceError:
            raise
        except Exception as error:
            raise ModelFailed(f"the model {self.key} fails on this picture: {in_one_line(error)}") from error

    def _passes(self, method: str, layer: str, targets: int, given: Mapping[str, float]) -> int:
        model, known = self._answering(Question(method, layer)), METHODS[method]
        size, targets = model.card.preprocess.input_size, targets or model.card.default_targets
        return forward_passes(known, model.network, layer, size, targets, known.own(given))

    def _worked_out(self, answer: Answer | Pending | ServiceError, asked: Question | None) -> Answer | ServiceError:
        """The answer once all of its steps are taken. A step counts as a batch of passes; what is more comes last."""
        with self._blamed():
            passes = self._passes(asked.method, asked.layer, len(asked.targets), asked.options) if asked else 0
            while isinstance(answer, Pending):
                done = min(passes, self.model.card.batch)
                answer, passes = answer.advance() or answer, passes - done
                self.progress(done)
        if not isinstance(answer, ServiceError):
            self.progress(passes)
        return answer

    def _ask(self, data: Picture, options: PredictOptions) -> Result:
        (result,) = asyncio.run(self._answers(Call([data], options))).results
        if isinstance(result, ServiceError):
            raise result
        return result

    async def _answers(self, call: Call[PredictOptions]) -> Answers:
        capacity = Capacity(self.settings)
        with capacity.admit() as admission:
            return await Pipeline(self, capacity).answer(call, admission, Unobserved())


@dataclass(frozen=True)
class Tried:
    """Model version that was loaded to see whether it works.

    Attributes:
        entry: where it is described.
        model: as it would be listed then, ready or failed.
        device: where it was loaded, or would have been.
        error: what is wrong with it; None where it works.
    """

    entry: Entry
    model: Model
    device: str
    error: ModelFailed | None = None


def load_all(versions: Iterable[tuple[Entry, Model]], settings: Settings) -> Iterator[Tried]:
    """Load model versions, one after the other, and tell of each."""
    limit(settings.cpus)
    load_plugins(settings.plugins)
    device = pick_device(settings.device)
    for entry, model in versions:
        try:
            loaded = _answering(entry, settings)
            described = {"card": loaded.card, "description": loaded.spec.description}
            yield Tried(entry, msgspec.structs.replace(model, state="ready", **described), device)
        except ModelFailed as error:
            failed = msgspec.structs.replace(model, state="failed", reason=error.detail)
            yield Tried(entry, failed, device, error)


def open_model(reference: str | None, settings: Settings) -> Local:
    """Load the model that ``name``, ``name@version`` or ``name@alias`` means; None for the default.

    Raises:
        UnknownModel: there is none.
        BadSettings: there is no saying which model is the default one.
        ModelFailed: it can't be loaded.
    """
    limit(settings.cpus)
    load_plugins(settings.plugins)
    listing = scan(settings.model_repository, settings.embedded)
    model = resolve(listing.models(), reference or settings.default_among(model.name for model in listing.models()))
    entry = next(entry for entry in listing if entry.key == model.key)
    loaded = _answering(entry, settings)
    return Local(model, loaded, settings.model_copy(update={"timeout_ms": _PATIENCE}))


def _answering(entry: Entry, settings: Settings) -> ServedModel:
    """The compiled form of a model, where there is one; else the model itself."""
    kept_too = settings.compile == "auto"
    form = load_form(entry, pick_device(settings.device), settings.cache_bytes, settings.max_pixels, kept_too)
    return form or _loaded(entry, settings)


def _loaded(entry: Entry, settings: Settings) -> ServedModel:
    device = pick_device(settings.device)
    return load(entry, device, settings.python_path, settings.cache_bytes, max_pixels=settings.max_pixels)
