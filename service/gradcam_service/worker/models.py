"""The models of one worker, loaded and made faster as `gradcam_service.worker.table` decides."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from gradcam_service.compiled.form import unlike
from gradcam_service.errors import ModelLoading, NeedsFullModel
from gradcam_service.question import Question
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.listing import Model
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.served import ServedModel
from gradcam_service.runtime import Precision, _threads
from gradcam_service.worker import reports, steps, table
from gradcam_service.worker.loader import How, Loader, Waits
from gradcam_service.worker.poller import Snapshot
from gradcam_service.worker.steps import Accelerate, Complete, Drop, Load
from gradcam_service.worker.table import Table

log = logging.getLogger(__name__)


class Models:
    """Every model version and its state.

    A new version or new content is loaded beside the old one and takes its place when it is ready; jobs hold the model
    that they were queued for, so the old one goes when the last of them is done. A model answers as soon as it can, and
    is then made faster.

    All happens in the thread that calls, but what `gradcam_service.worker.loader` does in others. Those read the table,
    which is never changed but replaced.

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
        self._table = Table(budget=budget)
        self._loaded: dict[int, ServedModel] = {}  # what answers, by the token of the load that made it
        self._full: dict[int, ServedModel] = {}  # of the compiled forms among those
        self._stale: frozenset[Entry] = frozenset()  # whose compiled forms are of other models
        self._start_ends = False
        how = How(str(device), python_path, cache_bytes, precision, surroundings, max_pixels)
        self._loader = Loader(how, wake, self._awaits, lambda token: self._loaded.get(token))

    @property
    def started(self) -> bool:
        """Whether all that load at start have been loaded, and made faster where what that takes was exported before.

        And whether what that left behind has been given back, which holds the interpreter for a while.
        """
        return self._loader.start_has_ended

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
        while not self._loader.outcomes.empty():
            step, outcome = self._loader.outcomes.get()
            if isinstance(outcome, Waits):
                self._become(table.waits(self._table, step.token, outcome.what))
            elif isinstance(step, Accelerate):
                self._take_faster(step.token, outcome)
            elif outcome is not None:
                (self._take if isinstance(step, Load) else self._take_full)(step.token, outcome)

    def _awaits(self, step: Load | Complete) -> bool:
        """Whether the outcome of a step would change anything; other threads ask."""
        if isinstance(step, Load):
            return self._table.awaits(step.token)
        version = self._table.models.get(step.token)
        return version is not None and version.completing

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
                case Load():
                    self._loader.load(step, by_form=step.entry not in self._stale)
                case Complete():
                    self._loader.load(step, by_form=False)
                case Accelerate():
                    self._loader.accelerate(step)
        reports.log_aliases(before, self._table)
        present = self._table.models
        self._loaded = {token: model for token, model in self._loaded.items() if token in present}
        self._full = {token: model for token, model in self._full.items() if token in present}
        reports.publish(before, self._table)
        if not (self._start_ends or self._table.busy):
            self._start_ends = True
            self._loader.end_start()
