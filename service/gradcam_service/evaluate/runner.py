"""Runner of an evaluation: every protocol on every sample and method, each measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from gradcam_service import __version__
from gradcam_service.errors import BadOption, BadRequest, ModelFailed, OutOfMemory, ServiceError
from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.explainer import Explainer, Predicted, check_finite
from gradcam_service.evaluate.journal import Entry, Journal, key_of
from gradcam_service.evaluate.protocols import Of, Protocol
from gradcam_service.evaluate.sample import Problem, Sample, fitting
from gradcam_service.explain.costs import forward_passes
from gradcam_service.explain.method import Batched
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.geometry import PreparedImage
from gradcam_service.inputs import INPUTS
from gradcam_service.tasks import beside as inputs_beside
from gradcam_service.text import TOKENS


@dataclass(frozen=True)
class Planned:
    """A protocol, and all of its options."""

    name: str
    protocol: Protocol
    options: dict[str, int | float]


@dataclass(frozen=True, eq=False)
class Plan:
    """Plan of what is to be measured.

    Attributes:
        explainer: the model.
        samples: of the data set.
        methods: names in `METHODS` that the model can be explained by.
        protocols: whose needs the data set meets.
        seed: of whatever is random.
    """

    explainer: Explainer
    samples: Sequence[Sample]
    methods: Sequence[str]
    protocols: Sequence[Planned]
    seed: int = 0
    _digests: dict[str, str] = field(default_factory=dict, init=False)

    def key(self, sample: Sample, method: str = "", planned: Planned | None = None) -> str:
        """The journal's name for one protocol's measure of one method on a sample, or for the sample itself."""
        of = (planned.name, sorted(planned.options.items())) if planned else ()
        card = self.explainer.model.card
        model = card.digest, card.runtime, card.precision
        return key_of(__version__, self._digest(sample), model, method, of, self.seed)

    def read(self, sample: Sample) -> bytes:
        """A sample's encoded picture, which decides its key from now on, as it does where it can't be read.

        Raises:
            OSError: it can't be.
        """
        try:
            data = sample.read()
        except OSError:
            self._digests[sample.name] = f"unreadable {sample.name}"
            raise
        self._digests[sample.name] = sample.digest(data)
        return data

    def _digest(self, sample: Sample) -> str:
        if sample.name not in self._digests:
            with suppress(OSError):
                self.read(sample)
        return self._digests[sample.name]

    def labels(self, sample: Sample, scores: np.ndarray) -> list[int]:
        """The classes that maps of a sample are wanted of, given its scores (classes,)."""
        best = np.argsort(-scores, kind="stable")[: self._top].tolist()
        return list(dict.fromkeys([*sample.labels, *best]))

    def passes(self, sample: Sample, missing: Mapping[str, Sequence[Planned]]) -> dict[str, float]:
        """Forward passes that each method takes on a sample, besides that of its prediction.

        What methods share counts for the first of them.

        Args:
            sample: of the data set.
            missing: what is to be measured of it, by method.
        """
        labels = len(sample.labels)
        found: dict[str, float] = {}
        begun: list[Planned] = []
        for method, chosen in missing.items():
            own = (each.protocol.passes(method, labels, self.cost, **each.options) for each in chosen)
            new = [each for each in chosen if each not in begun]
            shared = (each.protocol.shared_passes(labels, self.cost, **each.options) for each in new)
            maps = self.cost(method, labels + self._top) - 1 if chosen else 0.0
            found[method] = maps + sum(own) + sum(shared)
            begun += new
        return found

    def cost(self, method: str, maps: int = 1) -> float:
        """Forward passes of so many maps of one picture, the prediction included."""
        network, card = self.explainer.model.network, self.explainer.model.card
        return forward_passes(METHODS[method], network, "auto", card.preprocess.input_size, maps, {})

    def missing(self, sample: Sample, journal: Journal) -> dict[str, list[Planned]]:
        """The protocols by which the journal has no measure of a sample yet, by method; none where it is unusable."""
        known = journal.get(self.key(sample))
        wanted = self.protocols if known is None or known.usable else ()
        return {m: [each for each in wanted if journal.get(self.key(sample, m, each)) is None] for m in self.methods}

    def left_of(self, sample: Sample, journal: Journal) -> float:
        """Forward passes of what the journal hasn't of a sample."""
        missing = self.missing(sample, journal)
        return 1 + sum(self.passes(sample, missing).values()) if any(missing.values()) else 0.0

    def left(self, journal: Journal) -> float:
        """Forward passes of what it hasn't of all of them."""
        return sum(self.left_of(sample, journal) for sample in self.samples)

    @property
    def total(self) -> float:
        """Forward passes of all of it; no picture is read for it."""
        whole = dict.fromkeys(self.methods, self.protocols)
        return sum(1 + sum(self.passes(sample, whole).values()) for sample in self.samples)

    @property
    def _top(self) -> int:
        return max(planned.protocol.top for planned in self.protocols)


@dataclass(frozen=True, eq=False)
class _Job:
    """A sample of which something is yet to be measured."""

    sample: Sample  # its boxes fit its picture
    inputs: Mapping[str, np.ndarray]  # of the network: the picture, and what is asked about it
    prepared: PreparedImage
    missing: dict[str, list[Planned]]
    passes: dict[str, float]  # of what is missing, by method
    known: dict[Hashable, Any] = field(default_factory=dict)  # see `Case.known`


def run(plan: Plan, journal: Journal, progress: Callable[[float], object]) -> None:
    """Measure whatever the journal doesn't have yet.

    Args:
        plan: what to measure.
        journal: where it is kept.
        progress: told of forward passes that are done, or turn out not to be needed: `Plan.left` in all.

    Raises:
        ModelFailed: the model fails on whatever it is asked.
        OutOfMemory: the device's memory doesn't hold it.
    """
    size = plan.explainer.model.card.batch
    for first in range(0, len(plan.samples), size):
        some = plan.samples[first : first + size]
        expected = sum(plan.left_of(sample, journal) for sample in some)
        jobs = _jobs(plan, some, journal)
        if any(any(job.missing.values()) for job in jobs):
            # The same batch as at the first time, since a network's last digits depend on what is beside a picture.
            predicted = plan.explainer.predict([job.inputs for job in jobs])
            for method in plan.methods:
                _measure(plan, jobs, predicted, method, journal, progress)
        progress(expected - sum(sum(job.passes.values()) for job in jobs))


def measured(plan: Plan, planned: Planned, journal: Journal) -> tuple[list[Of], list[Problem]]:
    """What is known by one protocol, in the data set's order, and what couldn't be measured."""
    found, problems = [], []
    for sample in plan.samples:
        for method in plan.methods:
            entry = journal.get(plan.key(sample, method, planned))
            if entry is not None:
                found.append(Of(sample.name, sample.group, method, entry.rows))
                problems += [Problem(kind, sample.name, detail) for kind, detail in entry.problems]
    return found, problems


def looked_at(plan: Plan, journal: Journal) -> tuple[int, list[Problem]]:
    """How many pictures could be used, and what was wrong with any.

    Raises:
        BadRequest: with none.
    """
    usable, problems = 0, []
    for sample in plan.samples:
        entry = journal.get(plan.key(sample))
        assert entry is not None  # all has been run
        usable += entry.usable
        problems += [Problem(kind, sample.name, detail) for kind, detail in entry.problems]
    if not usable:
        first = problems[0]
        raise BadRequest(
            f"none of {len(plan.samples)} pictures can be used; {first.sample}: {first.detail or first.kind}. "
            "Pictures that gradcam explain takes would work"
        )
    return usable, problems


def _jobs(plan: Plan, samples: Sequence[Sample], journal: Journal) -> list[_Job]:
    """Those samples of a batch that can be used, decoded; none where nothing of the batch is missing."""
    missing = [plan.missing(sample, journal) for sample in samples]
    known = [journal.get(plan.key(sample)) for sample in samples]
    if not any(any(own.values()) for own in missing):
        return []
    jobs = (
        _job(plan, sample, own, journal)
        for sample, own, entry in zip(samples, missing, known, strict=True)
        if entry is None or entry.usable
    )
    return [job for job in jobs if job is not None]


def _job(plan: Plan, sample: Sample, missing: dict[str, list[Planned]], journal: Journal) -> _Job | None:
    """A sample, decoded; None of one that can't be, of which that is kept."""
    card, most = plan.explainer.model.card, plan.explainer.local.settings.max_pixels
    try:
        received = INPUTS[card.input.reader].receive(plan.read(sample), card.input, card.preprocess, most)
        beside = inputs_beside(card.task, card.text, {"question": sample.question} if sample.question else {}, {})
    except (ServiceError, OSError) as error:
        reason = error.detail if isinstance(error, ServiceError) else error.strerror or str(error)
        kind = "unreadable question" if isinstance(error, BadOption) else "unreadable picture"
        _keep(plan, journal, Entry(plan.key(sample), sample.name, problems=[(kind, reason)], usable=False))
        return None
    fitted, problems = fitting(sample, received.prepared.image_size)
    if journal.get(key := plan.key(sample)) is None:
        warned = [("picture with a warning", warning) for warning in received.warnings]
        _keep(plan, journal, Entry(key, sample.name, problems=[*((p.kind, p.detail) for p in problems), *warned]))
    return _Job(fitted, {**received.inputs, **beside}, received.prepared, missing, plan.passes(sample, missing))


def _measure(
    plan: Plan,
    jobs: Sequence[_Job],
    predicted: Predicted,
    method: str,
    journal: Journal,
    progress: Callable[[float], object],
) -> None:
    """Explain a batch by one method, and have all protocols measure it that haven't."""
    if not any(job.missing[method] for job in jobs):
        return
    together = isinstance(METHODS[method], Batched)  # one by one, each picture is kept as soon as it is done
    wanted = [
        plan.labels(job.sample, predicted.score(row)) if together or job.missing[method] else []
        for row, job in enumerate(jobs)
    ]
    maps = plan.explainer.maps(predicted, method, wanted) if together else []
    for row, job in enumerate(jobs):
        alone = [of if place == row else [] for place, of in enumerate(wanted)]
        case = Case(
            job.sample,
            method,
            job.prepared,
            predicted.image(row),
            predicted.score(row),
            maps[row] if together else plan.explainer.maps(predicted, method, alone)[row],
            replace(plan.explainer, tokens=job.inputs.get(TOKENS)),
            plan.seed,
            job.known,
        )
        for planned in job.missing[method]:
            rows, problems = _rows(case, planned)
            key = plan.key(job.sample, method, planned)
            _keep(plan, journal, Entry(key, job.sample.name, method, planned.name, rows, problems))
        progress(job.passes[method])


def _keep(plan: Plan, journal: Journal, entry: Entry) -> None:
    """Keep an entry, and what computed it."""
    card = plan.explainer.model.card
    journal.add(msgspec.structs.replace(entry, runtime=card.runtime, precision=card.precision))


def _rows(case: Case, planned: Planned) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """What a protocol makes of a case, or why it makes nothing."""
    try:
        check_finite(case.predicted, case.raw)
        return planned.protocol.measure(case, **planned.options), []
    except (ModelFailed, OutOfMemory):
        raise
    except ServiceError as error:
        return [], [("not measured", f"{planned.name} of {case.method}: {error.detail}")]
