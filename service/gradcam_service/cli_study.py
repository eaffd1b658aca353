"""What ``gradcam study`` does: makes questionnaires, and scores the answers that come back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from gradcam_service.cli_options import separated
from gradcam_service.cli_settings import opened
from gradcam_service.errors import BadRequest

if TYPE_CHECKING:
    from gradcam_service.evaluate.questionnaire import Asking
    from gradcam_service.evaluate.studies import Study
    from gradcam_service.local import Local

_SIDE = 360
"""Pixels of a picture's longest side on a page."""


@click.group()
def study() -> None:
    """Ask people what maps tell them: a page with pictures and no key in it, and a score of the answers."""


def _making(command: Callable[..., None]) -> Callable[..., None]:
    """What both studies take."""
    folder = click.Path(file_okay=False, path_type=Path)
    for add in (
        click.option("-o", "folder", type=folder, required=True, help="Folder to make, of the page and its key."),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of whatever is by lot."),
        click.option("--pictures", type=click.IntRange(1), default=20, show_default=True, help="Asked about, by lot."),
        click.option("--methods", callback=separated, help="Separated by commas.  [default: the model's own]"),
        click.option("--model", help="name, name@version or name@alias.  [default: GRADCAM_DEFAULT_MODEL]"),
        click.argument("data"),
    ):
        command = add(command)
    return command


@study.command()
@_making
def discrimination(**given: Any) -> None:  # noqa: ANN401  click's values
    """Which of the two classes of a picture does its map show? Each of PICTURES is asked about once by each method.

    DATA is as of gradcam evaluate; pictures of just two classes are asked about.
    """
    order, local = _Order(**given), opened(given["model"])
    from gradcam_service.evaluate.studies.discrimination import STUDY, Discrimination

    _make("discrimination", STUDY, Discrimination(local, _SIDE), order, [local])


@study.command()
@click.option("--against", required=True, help="The model that --model is compared with.")
@_making
def trust(against: str, **given: Any) -> None:  # noqa: ANN401  click's values
    """Which of two models looks more reasonable? Each of PICTURES is asked about once by each method.

    DATA is as of gradcam evaluate; pictures are asked about of which both models say the same, and rightly.
    """
    order, first, second = _Order(**given), opened(given["model"]), opened(against)
    if first.key == second.key:
        raise click.UsageError(f"--model and --against are both {first.key}; two different models are compared")
    from gradcam_service.evaluate.studies.trust import STUDY, Trust

    _make("trust", STUDY, Trust(first, second, _SIDE), order, [first, second])


@study.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("answers", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "report", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to make.")
def score(folder: Path, answers: Sequence[Path], report: Path) -> None:
    """What the files ANSWERS that participants saved are worth by the key in FOLDER, and a report of it."""
    from gradcam_service.evaluate.questionnaire import key_of
    from gradcam_service.evaluate.questionnaire.answers import collected
    from gradcam_service.evaluate.questionnaire.scoring import scored
    from gradcam_service.evaluate.report import write
    from gradcam_service.evaluate.studies import STUDIES

    key = key_of(folder)
    found, problems = collected(answers, key)
    report.mkdir(parents=True, exist_ok=True)
    for line in write(report, scored(key, STUDIES[key.study], found, problems)):
        click.echo(line)


@dataclass(frozen=True)
class _Order:
    """What was ordered on the command line."""

    data: str
    model: str | None
    methods: tuple[str, ...]
    pictures: int
    seed: int
    folder: Path


def _make(name: str, kind: Study, asking: Asking, order: _Order, models: Sequence[Local]) -> None:
    from gradcam_service.evaluate import datasets
    from gradcam_service.evaluate.questionnaire import KEY, PAGE, prepared, questions, write

    prepared(order.folder)
    cards = [local.model.card for local in models]
    for local in models:
        if local.model.card.task != "classification":
            raise BadRequest(f"{local.key} is a model of {local.model.card.task}; studies take those of classification")
    methods = list(dict.fromkeys(order.methods or [cards[0].method]))
    for card in cards:
        for method in methods:
            card.check_question(method, "auto", ())
    collected = datasets.collect(datasets.Source(order.data), cards[0].labels)
    with tqdm(unit=" questions", disable=not sys.stderr.isatty()) as bar:
        asked, problems = questions(asking, collected.samples, methods, order.pictures, order.seed, bar.update)
    versions = {local.key: local.model.card.digest for local in models}
    write(order.folder, name, kind, asked, order.data, versions, order.seed)
    for problem in sorted({*collected.problems, *problems}):
        click.echo(f"left out or changed: {problem.kind}: {problem.sample}: {problem.detail}")
    click.echo(f"{len(asked)} questions about {len(asked) // len(methods)} pictures by {', '.join(methods)}")
    click.echo(f"→ {order.folder / PAGE}, to be given to participants; {order.folder / KEY}, to be kept from them")
