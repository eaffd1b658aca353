"""The threads of a worker that load its models, make them faster and give back their memory.

What a load waits for, it waits for in a thread of its own, in which a compiled form is opened, too, when no other is.
Then one thread loads models themselves, in the order in which these end.
"""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import NamedTuple

from gradcam_service import metrics
from gradcam_service.compiled.form import make_form
from gradcam_service.errors import ModelFailed, in_one_line
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.cache import Lease, holding
from gradcam_service.registry.loading import load, load_form, prepare
from gradcam_service.registry.served import ServedModel, Waited
from gradcam_service.registry.waits import heard_by
from gradcam_service.runtime import Precision, can_compute_in
from gradcam_service.worker import memory
from gradcam_service.worker.memory import device_type
from gradcam_service.worker.steps import Accelerate, Complete, Load

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class How:
    """Settings of how models are loaded; see `gradcam_service.worker.models.Models`."""

    device: str
    python_path: Path | None
    cache_bytes: int
    precision: Precision
    surroundings: Surroundings | None
    max_pixels: int

    @property
    def compiles(self) -> bool:
        """Whether models are compiled for the next start, and what was compiled before is used."""
        return self.surroundings is not None and self.surroundings.compiles


class Waits(NamedTuple):
    """What a load waits for, a sentence's end."""

    what: str


Outcome = ServedModel | str | Waits | None
"""What has come of a step, why nothing has, or what it waits for; None where a faster model is to be expected later."""


class _Prepared(NamedTuple):
    """A load that has nothing to wait for any more.

    Attributes:
        step: which.
        began: when, by `perf_counter`.
        leases: of what it needs.
    """

    step: Load | Complete
    began: float
    leases: list[Lease]


class Loader:
    """Does what was decided of models; whoever decides takes the outcomes.

    Args:
        how: models are loaded.
        wake: called from these threads when there is an outcome.
        awaits: whether the outcome of a step would change anything.
        loaded: the model that a load has made, by its token; None where it has gone.

    Attributes:
        outcomes: of steps, to be taken in the thread that decides.
    """

    def __init__(
        self,
        how: How,
        wake: Callable[[], None],
        awaits: Callable[[Load | Complete], bool],
        loaded: Callable[[int], ServedModel | None],
    ) -> None:
        self._how = how
        self._wake = wake
        self._awaits = awaits
        self._loaded = loaded
        self.outcomes: SimpleQueue[tuple[Load | Complete | Accelerate, Outcome]] = SimpleQueue()
        # Unlike an executor's submit, its put may be called wherever a model happens to be collected as garbage.
        self._work: SimpleQueue[_Prepared | Accelerate | partial[None]] = SimpleQueue()
        self._opening = threading.Lock()
        self._start = threading.Event()
        threading.Thread(target=self._run, name="loader", daemon=True).start()

    def load(self, step: Load | Complete, by_form: bool) -> None:
        """Have a model loaded: where ``by_form``, its compiled form, if it has one."""
        threading.Thread(target=self._prepare, args=(step, by_form), name="prepare", daemon=True).start()

    def accelerate(self, step: Accelerate) -> None:
        """Have a model made faster when what was asked for before has been done."""
        self._work.put(step)

    def end_start(self) -> None:
        """Have the start ended behind all that it has left to do."""
        self._work.put(partial(self._end_start))

    @property
    def start_has_ended(self) -> bool:
        """Whether that is done."""
        return self._start.is_set()

    def _tell(self, step: Load | Complete | Accelerate, outcome: Outcome) -> None:
        self.outcomes.put((step, outcome))
        self._wake()

    def _run(self) -> None:
        """In the loading thread: do what was decided, one thing at a time."""
        precision, device = self._how.precision, self._how.device
        if precision == "bfloat16" and not can_compute_in(precision, device_type(device)):
            fields = {"setting": "GRADCAM_PRECISION", "precision": precision, "device": device}
            log.warning("the setting has no effect: no runtime has units for it here", extra={"fields": fields})
        while True:
            try:
                self._do(self._work.get())
            except Exception:  # others are to be loaded; after a fault of the device the next batch ends the process
                log.exception("loader failed")

    def _do(self, work: _Prepared | Accelerate | partial[None]) -> None:
        match work:
            case _Prepared(step) if self._awaits(step):
                self._load(work)
            case Accelerate():
                self._accelerate(work)
            case partial():
                work()

    def _end_start(self) -> None:
        self._start.set()
        self._wake()

    def _prepare(self, step: Load | Complete, by_form: bool) -> None:
        """In a thread of its own, so that others are loaded meanwhile: wait for what a load needs."""
        start, last = perf_counter(), ""

        def tell(what: str) -> None:
            nonlocal last
            if not self._awaits(step):
                raise ModelFailed("nobody waits for it any more")
            if what != last:
                last = what
                self._tell(step, Waits(what))

        try:
            with heard_by(tell):
                if not (by_form and self._load_form(step, start)):
                    leases = prepare(step.entry, self._how.python_path, self._how.surroundings)
                    self._work.put(_Prepared(step, start, leases))
        except BaseException as error:
            if self._awaits(step):
                self._tell(step, _failure(step, error))

    def _load_form(self, step: Load | Complete, began: float) -> bool:
        """Load the compiled form that answers for a model; whether it has one.

        One at a time, so that no more are in memory than the budget holds and the one that is being opened.
        """
        with holding():
            step.entry.folder()  # which may have to be fetched, while others are opened
            with self._opening:
                how = self._how
                form = load_form(
                    step.entry, how.device, how.cache_bytes, how.max_pixels, how.compiles, how.surroundings
                )
                if form is not None:
                    self._succeed(step, began, form)
        return form is not None

    def _load(self, prepared: _Prepared) -> None:
        step, how = prepared.step, self._how
        try:
            model = load(step.entry, how.device, how.python_path, how.cache_bytes, how.surroundings, how.max_pixels)
        except BaseException as error:
            self._tell(step, _failure(step, error))
            return
        self._succeed(step, prepared.began, model)

    def _succeed(self, step: Load | Complete, began: float, model: ServedModel) -> None:
        seconds = perf_counter() - began
        metrics.MODEL_LOAD.labels(step.entry.name).observe(seconds)
        what = "model ready" if isinstance(step, Load) else "full model ready"
        log.info(what, extra={"fields": {"model": step.entry.key, "seconds": round(seconds, 2)}})
        self._give_back_after(model)
        self._tell(step, model)

    def _accelerate(self, step: Accelerate) -> None:
        """Make a model that answers already faster, if it can be and is still there."""
        outcome = self._faster(step)
        self._tell(step, outcome)
        if outcome is not None and self._how.compiles and step.version.card is not None and step.version.card.torch:
            own = (step.version.entry, self._how.surroundings)
            threading.Thread(target=make_form, args=own, name="compile", daemon=True).start()

    def _faster(self, step: Accelerate) -> ServedModel | str | None:
        """What is faster, why there is nothing, or None where it is to be expected later or the model has gone.

        Then nothing here holds the model as it was, whose memory can be given back.
        """
        model = self._loaded(step.token)
        if model is None:
            return None
        try:
            if model.exporter is not None and not model.exporter.is_ready():
                threading.Thread(target=self._accelerate_later, args=(step, model.exporter), daemon=True).start()
                return None
            outcome = model.accelerated(self._how.precision, self._how.cache_bytes)
        except BaseException as error:  # of the device, the disk or the model's code; it answers as it is
            return in_one_line(error)
        if not isinstance(outcome, str):
            self._give_back_after(outcome)
        return outcome

    def _accelerate_later(self, step: Accelerate, exporter: Waited) -> None:
        """In a thread of its own, so that others are loaded meanwhile: have a model exported, or its runtimes raced."""
        try:
            exporter.export()
        finally:  # else nobody would learn that there is nothing faster
            self._work.put(step)

    def _give_back_after(self, model: ServedModel) -> None:
        """Have what a model took returned when nobody holds it any more."""
        weakref.finalize(model, self._work.put, partial(_give_back, self._how.device)).atexit = False


def _failure(step: Load | Complete, error: BaseException) -> str:
    """Why a load has failed, whatever a model does, even exit: its callers are told and others are loaded."""
    if isinstance(error, ModelFailed):
        reason = error.detail
    else:
        log.error("model failed to load", exc_info=error, extra={"fields": {"model": step.entry.key}})
        reason = in_one_line(error)
    log.error("model failed", extra={"fields": {"model": step.entry.key, "reason": reason}})
    return reason


def _give_back(device: str) -> None:
    """Return a dropped model's memory; its graphs are full of cycles."""
    if "torch" in sys.modules:
        from gradcam_service.explain.graph import forget_sources

        forget_sources()
    memory.give_back(device)
