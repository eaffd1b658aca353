"""The command ``gradcam evaluate``: plans, tells what it costs, measures, and writes the report."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from gradcam_service.cli_files import complain, told_time
from gradcam_service.errors import BadOption, BadRequest
from gradcam_service.evaluate import datasets
from gradcam_service.evaluate.explainer import Explainer, on_fastest_runtime
from gradcam_service.evaluate.journal import Journal, opened
from gradcam_service.evaluate.protocols import PROTOCOLS, Need, Protocol
from gradcam_service.evaluate.report import write
from gradcam_service.evaluate.runner import Plan, Planned, looked_at, measured, run
from gradcam_service.evaluate.sample import Collected, Sample
from gradcam_service.evaluate.summary import summed_up
from gradcam_service.kinds import no_such
from gradcam_service.tasks import TASKS

if TYPE_CHECKING:
    from gradcam_service.local import Local
    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class Order:
    """Evaluation that was ordered on the command line.

    Attributes:
        data: a folder, a file, or ``scenes``.
        methods: names, or ``all``.
        protocols: names, ``all`` that the data allow, or none for those of them that take no passes but their maps'.
        settings: ``PROTOCOL.OPTION=VALUE``.
        boxes: folder of annotations.
        classes: file of what the data set calls the model's classes.
        limit: most pictures.
        seed: of whatever is random, the choice of so many pictures as well.
        resume: whether to go on with what a report has.
        report: its folder.
    """

    data: str
    methods: tuple[str, ...]
    protocols: tuple[str, ...]
    settings: tuple[str, ...]
    boxes: Path | None
    classes: Path | None
    limit: int | None
    seed: int
    resume: bool
    report: Path


def evaluate(local: Local, order: Order) -> None:
    """Evaluate a model's explanations on a data set, and write what was found.

    Raises:
        ServiceError: what is wrong with the order, the data set or the model.
    """
    card = local.model.card
    if not TASKS[card.task].of_classes:
        able = " and ".join(name for name, task in TASKS.items() if task.of_classes)
        raise BadRequest(
            f"{local.key} is a model of {card.task}; gradcam evaluate takes those of {able}; "
            "POST /explain with quality=true measures single maps of it"
        )
    methods = _methods(order.methods, card)
    settings = _settings(order.settings)
    names = _named(order.protocols)
    classes = datasets.classes_of(order.classes, len(card.labels)) if order.classes else ()
    collected = datasets.collect(datasets.Source(order.data, order.boxes, order.limit), card.labels, classes)
    samples = _chosen(collected.samples, order)
    protocols = _protocols(order, names, settings, methods, samples, card)
    with opened(order.report, resume=order.resume) as journal:
        local = on_fastest_runtime(local, journal.latest)
        plan = Plan(Explainer(local), samples, methods, protocols, order.seed)
        left = plan.left(journal) if journal.latest else plan.total
        _tell(plan, local, left, goes_on=journal.latest is not None)
        try:
            _run(plan, journal, left)
        except KeyboardInterrupt:
            complain(f"what is done is kept in {order.report}; --resume goes on with it")
            raise
        _report(plan, journal, collected, order)


def _methods(named: Sequence[str], card: Card) -> list[str]:
    names = card.method_names() if "all" in named else list(dict.fromkeys(named or [card.method]))
    for name in names:
        card.check_question(name, "auto", {})
    return names


def _chosen(samples: Sequence[Sample], order: Order) -> list[Sample]:
    """As many samples as are wanted, drawn by lot, in the data set's order."""
    if order.limit is None or order.limit >= len(samples):
        return list(samples)
    drawn = random.Random(order.seed).sample(range(len(samples)), order.limit)
    return [samples[place] for place in sorted(drawn)]


def _named(protocols: Sequence[str]) -> list[str]:
    """The protocols that may be wanted.

    Raises:
        BadOption: there is no such protocol.
    """
    if not protocols or "all" in protocols:
        return list(PROTOCOLS)
    if strange := sorted({*protocols} - set(PROTOCOLS)):
        raise BadOption(f"--protocols: {no_such(strange[0], PROTOCOLS)}")
    return list(dict.fromkeys(protocols))


def _protocols(
    order: Order,
    names: Sequence[str],
    settings: Mapping[str, dict[str, int | float]],
    methods: Sequence[str],
    samples: Sequence[Sample],
    card: Card,
) -> list[Planned]:
    """Those of the protocols that the data set allows, each with its options.

    Raises:
        BadOption: the data set hasn't what a named one needs, it can't measure the model, or none can.
    """
    planned = []
    for name in names:
        protocol = PROTOCOLS[name]
        lacking = [need.value for need in protocol.needs if not any(_has(sample, need) for sample in samples)]
        if lacking and name in order.protocols:
            raise BadOption(f"--protocols {name} needs {' and '.join(lacking)}, which data set {order.data!r} hasn't")
        beyond = protocol.of_pictures and card.text is not None
        if beyond and name in order.protocols:
            raise BadOption(f"--protocols {name} is for models that take pictures alone; this one takes text, too")
        options = {option: known.default for option, known in protocol.options.items()} | settings.get(name, {})
        costs = [protocol.passes(m, 1, lambda _: 1.0, **options) for m in methods]
        costs.append(protocol.shared_passes(1, lambda _: 1.0, **options))
        if not (lacking or beyond) and (order.protocols or not any(costs)):
            planned.append(Planned(name, protocol, options))
    if not planned:
        raise BadOption(f"no protocol suits data set {order.data!r}; there are {', '.join(PROTOCOLS)}")
    return planned


def _has(sample: Sample, need: Need) -> bool:
    if need is Need.GROUPS:
        return bool(sample.group)
    return any(thing.box or (thing.mask and need is Need.PLACES) for thing in sample.things)


def _settings(written: Sequence[str]) -> dict[str, dict[str, int | float]]:
    """Options by protocol, of ``PROTOCOL.OPTION=VALUE``."""
    found: dict[str, dict[str, int | float]] = {}
    for text in written:
        name, _, value = text.partition("=")
        protocol, _, option = name.partition(".")
        if protocol not in PROTOCOLS:
            raise BadOption(f"--set {text}: {no_such(protocol, PROTOCOLS)}; it takes PROTOCOL.OPTION=VALUE")
        found.setdefault(protocol, {})[option] = _value(text, PROTOCOLS[protocol], option, value)
    return found


def _value(text: str, protocol: Protocol, option: str, value: str) -> int | float:
    if option not in protocol.options:
        raise BadOption(f"--set {text}: {no_such(option, protocol.options) if protocol.options else 'it has none'}")
    known = protocol.options[option]
    try:
        number = type(known.default)(value)
    except ValueError:
        raise BadOption(f"--set {text}: {option} takes a number, such as {known.default}") from None
    if wrong := known.wrong_with(number):
        raise BadOption(f"--set {text}: {option} {wrong}")
    return number


def _tell(plan: Plan, local: Local, left: float, *, goes_on: bool) -> None:
    """How much there is to do, before it begins."""
    protocols = ", ".join(planned.name for planned in plan.protocols)
    what = f"{len(plan.samples):,} pictures by {', '.join(plan.methods)}: {protocols}"
    if not left:
        click.echo(f"{what}; all of it is measured already")
        return
    of_all = f" of {plan.total:,.0f} are left" if goes_on else ""
    seconds = left * local.pace(int(left))
    click.echo(
        f"{what}; {left:,.0f} forward passes{of_all} on {local.model.card.runtime}, which alone take about "
        f"{told_time(seconds)}"
    )


def _run(plan: Plan, journal: Journal, left: float) -> None:
    with tqdm(total=round(left), unit=" passes", disable=not sys.stderr.isatty(), smoothing=0.05) as bar:
        run(plan, journal, bar.update)


def _report(plan: Plan, journal: Journal, collected: Collected, order: Order) -> None:
    usable, problems = looked_at(plan, journal)
    found = {planned.name: measured(plan, planned, journal) for planned in plan.protocols}
    problems = [*collected.problems, *problems, *(problem for _, own in found.values() for problem in own)]
    kept = {name: of for name, (of, _) in found.items()}
    for line in write(order.report, summed_up(order.data, plan, kept, usable, problems)):
        click.echo(line)
