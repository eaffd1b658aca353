"""The models of one worker, loaded and made faster by a thread as `gradcam_service.worker.table` decides."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import NamedTuple

from gradcam_service import metrics
from gradcam_service.compiled.form import make_form, unlike
from gradcam_service.errors import ModelFailed, ModelLoading, NeedsFullModel, in_one_line
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.cache import Lease, holding
from gradcam_service.registry.listing import Model
from gradcam_service.registry.loading import load, load_form, prepare
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.served import Question, ServedModel, Waited
from gradcam_service.registry.waits import heard_by
from gradcam_service.runtime import Precision, _threads, can_compute_in
from gradcam_service.worker import memory, reports, steps, table
from gradcam_service.worker.memory import device_type
from gradcam_service.worker.poller import Snapshot
from gradcam_service.worker.steps import Accelerate, Complete, Drop, Load
from gradcam_service.worker.table import Table

log = logging.getLogger(__name__)


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


class Models:
    """Every model version and its state.

    A new version or new content is loaded beside the old one and takes its place when it is ready; jobs hold the model
    that they were queued for, so the old one goes when the last of them is done. A model answers as soon as it can, and
    is then made faster.

    What a load waits for, it waits for in a thread of its own, in which a compiled form is opened, too, when no other
    is. Then one thread loads models themselves, in the order in which these end. All else happens in the thread that
    calls. Those threads read the table, which is never changed but replaced, and tell of their outcomes through queues.

    Args:
        device: where models are put.
        budget: bytes that their parameters may take; 0 sets no bound.
        python_path: whose code may run.
        wake: called from the loading thread when something has ended; then `collect` wants to be called.
        cache_bytes: that what is kept on the disk may take; 0 sets no bound.
        precision: that feature maps are computed in of models that don't say.
        surroundings: of processes of their own that trace models; None where this one is to.
        max_pixels: that callers' pictures may have, and so models' samples; 0 where only these matter.
    """

    def __init__(
        self,
        device: str,
        budget: int,
        python_path: Path | None,
        wake: Callable[[], None],
        cache_bytes: int = 0,
        precision: Precision = "float32",
        surroundings: Surroundings | None = None,
        max_pixels: int = 0,
    ) -> None:
        self._device = str(device)
        self._python_path = python_path
        self._cache_bytes = cache_bytes
        self._precision = precision
        self._surroundings = surroundings
        self._max_pixels = max_pixels
        self._wake = wake
        self._table = Table(budget=budget)
        self._loaded: dict[int, ServedModel] = {}  # what answers, by the token of the load that made it
        self._full: dict[int, ServedModel] = {}  # of the compiled forms among those
        self._stale: frozenset[Entry] = frozenset()  # whose compiled forms are of other models
        # Unlike an executor's submit, its put may be called wherever a model happens to be collected as garbage.
        self._work: SimpleQueue[_Prepared | Accelerate | partial[None]] = SimpleQueue()
        self._waits: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._ended: SimpleQueue[tuple[int, ServedModel | str]] = SimpleQueue()
        self._accelerated: SimpleQueue[tuple[int, ServedModel | str | None]] = SimpleQueue()
        self._completed: SimpleQueue[tuple[int, ServedModel | str]] = SimpleQueue()
        self._opening = threading.Lock()
        self._start = threading.Event()
        self._start_ends = False
        threading.Thread(target=self._run, name="loader", daemon=True).start()

    @property
    def started(self) -> bool:
        """Whether all that load at start have been loaded, and made faster where what that takes was exported before.

        And whether what that left behind has been given back, which holds the interpreter for a while.
        """
        return self._start.is_set()

    def status(self) -> list[Model]:
        """Every version in its present state."""
        return self._table.status()

    def find(self, key: str, digest: str, question: Question | None = None) -> ServedModel:
        """What answers a question to the version ``key``, for a job.

        Raises:
            ModelLoading: it is not ready, or has another digest by now.
            NeedsFullModel: its compiled form alone is ready, and can't answer that.
        """
        version = self._table.versions.get(key)
        model = None if version is None or version.model is None else self._loaded[version.model]
        if version is None or model is None or model.card.digest != digest:
            raise ModelLoading(f"model {key} has been replaced or unloaded; try again")
        self._table = table.used(self._table, key, monotonic())
        if model.answers(question):
            return model
        if version.model not in self._full:
            raise NeedsFullModel(f"model {key} is yet to be brought in for this; try again")
        return self._full[version.model]

    def apply(self, snapshot: Snapshot) -> None:
        """Take over what the repositories hold now."""
        self._become(table.found(self._table, snapshot))

    def load(self, key: str, again: bool, whole: bool = False) -> bool:
        """Have a version loaded; False if it is there already.

        Args:
            key: ``name@version``.
            again: even if it is loaded, or has failed lately.
            whole: and where its compiled form answers, the full model beside that.

        Raises:
            UnknownModel: there is no such version.
            ModelFailed: it failed so lately that trying again would only keep others waiting.
        """
        token = self._table.versions[key].model if key in self._table.versions else None
        if whole:
            if token in self._full:
                return False
            self._become(table.needed_whole(self._table, key, monotonic()))
            return True
        self._become(table.asked(self._table, key, again, monotonic()))
        return again or token is None

    def unload(self, key: str) -> None:
        """Forget a version, loaded or being loaded, until it is asked for again.

        Raises:
            UnknownModel: there is no such version.
        """
        self._become(table.unloaded(self._table, key))

    def is_loading(self, key: str) -> bool:
        """Whether a load of this version, or of the full model beside its compiled form, has not ended."""
        version = self._table.versions.get(key)
        return version is not None and (version.load is not None or version.completing)

    def failure(self, key: str) -> str | None:
        """Why the version's content is not loaded; None if it is, or nobody wants it to be."""
        version = self._table.versions.get(key)
        if version is None:
            return "it is not in the repository any more"
        return version.failure or None

    def collect(self) -> None:
        """Put what has been loaded into its place."""
        while not self._waits.empty():
            self._become(table.waits(self._table, *self._waits.get()))
        while not self._ended.empty():
            token, outcome = self._ended.get()
            self._take(token, outcome)
        while not self._accelerated.empty():
            self._take_faster(*self._accelerated.get())
        while not self._completed.empty():
            self._take_full(*self._completed.get())

    def _take(self, token: int, outcome: ServedModel | str) -> None:
        if isinstance(outcome, str):
            self._become(table.ended(self._table, token, outcome, monotonic()))
        elif self._table.awaits(token):
            _threads.tell_torch()  # for this thread, too, if the model has brought it in
            self._loaded[token] = outcome
            self._become(table.ended(self._table, token, outcome.card, monotonic()))

    def _take_faster(self, token: int, outcome: ServedModel | str | None) -> None:
        """Take what is faster, why there is nothing, or for None that it is to be expected later."""
        version = self._table.models.get(token)
        if version is None:
            return
        fields: dict[str, object] = {"model": version.entry.key}
        if not isinstance(outcome, str | None) and (reason := table.no_room(self._table, token, outcome.card)):
            outcome = f"{outcome.card.runtime} is not used: {reason}"
        if outcome is None:
            self._become(table.accelerated(self._table, token, None))
        elif isinstance(outcome, str):
            runtime = self._loaded[token].card.runtime
            stays = "eager PyTorch" if runtime == "eager" else runtime
            log.info("model stays on %s", stays, extra={"fields": fields | {"reason": outcome}})
            self._become(table.accelerated(self._table, token, None))
        else:
            card = outcome.card
            fields |= {"runtime": card.runtime, "precision": card.precision}
            fields |= {"others": "; ".join(outcome.others)} if outcome.others else {}
            log.info("model is faster now", extra={"fields": fields})
            self._loaded[token] = outcome
            self._become(table.accelerated(self._table, token, card))

    def _take_full(self, token: int, outcome: ServedModel | str) -> None:
        """Take a full model beside its compiled form, or why there is none."""
        _threads.tell_torch()
        version, card = self._table.models.get(token), None if isinstance(outcome, str) else outcome.card
        if version and card and (reason := unlike(self._loaded[token].card, card)):
            log.warning("compiled form is set aside", extra={"fields": {"model": version.entry.key, "reason": reason}})
            self._stale |= {version.entry}
            self._become(table.outdated(self._table, token, reason, monotonic()))
            return
        more = outcome if isinstance(outcome, str) else outcome.card.memory
        happened = table.completed(self._table, token, more, monotonic())
        if not isinstance(outcome, str) and happened != self._table and not happened.models[token].incomplete:
            self._full[token] = outcome
        self._become(happened)

    def _become(self, happened: Table) -> None:
        """Decide what follows from what has happened, and have it done."""
        before, self._table = self._table, table.reconcile(happened)
        for step in steps.todo(before, self._table):
            match step:
                case Drop():
                    log.info("model unloaded", extra={"fields": {"model": step.version.entry.key}})
                case Load() | Complete():
                    threading.Thread(target=self._prepare, args=(step,), name="prepare", daemon=True).start()
                case Accelerate():
                    self._work.put(step)
        reports.log_aliases(before, self._table)
        present = self._table.models
        self._loaded = {token: model for token, model in self._loaded.items() if token in present}
        self._full = {token: model for token, model in self._full.items() if token in present}
        reports.publish(before, self._table)
        if not (self._start_ends or self._table.busy):
            self._start_ends = True
            self._work.put(partial(self._end_start))  # behind all that the start has left to do

    def _run(self) -> None:
        """In the loading thread: do what was decided, one thing at a time."""
        if self._precision == "bfloat16" and not can_compute_in(self._precision, device_type(self._device)):
            fields = {"setting": "GRADCAM_PRECISION", "precision": self._precision, "device": self._device}
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

    def _awaits(self, step: Load | Complete) -> bool:
        """Whether the outcome of a step would change anything."""
        if isinstance(step, Load):
            return self._table.awaits(step.token)
        version = self._table.models.get(step.token)
        return version is not None and version.completing

    def _prepare(self, step: Load | Complete) -> None:
        """In a thread of its own, so that others are loaded meanwhile: wait for what a load needs."""
        start, last = perf_counter(), ""

        def tell(what: str) -> None:
            nonlocal last
            if not self._awaits(step):
                raise ModelFailed("nobody waits for it any more")
            if what != last:
                last = what
                self._waits.put((step.token, what))
                self._wake()

        try:
            with heard_by(tell):
                if isinstance(step, Complete) or step.entry in self._stale or not self._load_form(step, start):
                    leases = prepare(step.entry, self._python_path, self._surroundings)
                    self._work.put(_Prepared(step, start, leases))
        except BaseException as error:
            if self._awaits(step):
                self._end_load(step, _failure(step, error))

    def _load_form(self, step: Load, began: float) -> bool:
        """Load the compiled form that answers for a model; whether it has one.

        One at a time, so that no more are in memory than the budget holds and the one that is being opened.
        """
        with holding():
            step.entry.folder()  # which may have to be fetched, while others are opened
            with self._opening:
                form = load_form(
                    *(step.entry, self._device, self._cache_bytes, self._max_pixels, self._compiles, self._surroundings)
                )
                if form is not None:
                    self._succeed(step, began, form)
        return form is not None

    def _load(self, prepared: _Prepared) -> None:
        step = prepared.step
        try:
            model = load(
                *(step.entry, self._device, self._python_path, self._cache_bytes, self._surroundings, self._max_pixels)
            )
        except BaseException as error:
            self._end_load(step, _failure(step, error))
            return
        self._succeed(step, prepared.began, model)

    def _succeed(self, step: Load | Complete, began: float, model: ServedModel) -> None:
        seconds = perf_counter() - began
        metrics.MODEL_LOAD.labels(step.entry.name).observe(seconds)
        what = "model ready" if isinstance(step, Load) else "full model ready"
        log.info(what, extra={"fields": {"model": step.entry.key, "seconds": round(seconds, 2)}})
        self._give_back_after(model)
        self._end_load(step, model)

    def _end_load(self, step: Load | Complete, outcome: ServedModel | str) -> None:
        (self._ended if isinstance(step, Load) else self._completed).put((step.token, outcome))
        self._wake()

    def _accelerate(self, step: Accelerate) -> None:
        """Make a model that answers already faster, if it can be and is still there."""
        outcome = self._faster(step)
        self._accelerated.put((step.token, outcome))
        self._wake()
        if outcome is not None and self._compiles and step.version.card is not None and step.version.card.torch:
            own = (step.version.entry, self._surroundings)
            threading.Thread(target=make_form, args=own, name="compile", daemon=True).start()

    def _faster(self, step: Accelerate) -> ServedModel | str | None:
        """What is faster, why there is nothing, or None where it is to be expected later or the model has gone.

        Then nothing here holds the model as it was, whose memory can be given back.
        """
        model = self._loaded.get(step.token)
        if model is None:
            return None
        try:
            if model.exporter is not None and not model.exporter.is_ready():
                threading.Thread(target=self._accelerate_later, args=(step, model.exporter), daemon=True).start()
                return None
            outcome = model.accelerated(self._precision, self._cache_bytes)
        except BaseException as error:  # of the device, the disk or the model's code; it answers as it is
            return in_one_line(error)
        if not isinstance(outcome, str):
            self._give_back_after(outcome)
        return outcome

    def _accelerate_later(self, step: Accelerate, exporter: Waited) -> None:
        """In a thread of its own, so that others are loaded meanwhile: have a model exported."""
        try:
            exporter.export()
        finally:  # else nobody would learn that there is nothing faster
            self._work.put(step)

    @property
    def _compiles(self) -> bool:
        """Whether models are compiled for the next start, and what was compiled before is used."""
        return self._surroundings is not None and self._surroundings.compiles

    def _give_back_after(self, model: ServedModel) -> None:
        """Have what a model took returned when nobody holds it any more."""
        weakref.finalize(model, self._work.put, partial(_give_back, self._device)).atexit = False


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
