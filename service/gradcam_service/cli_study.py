"""The command ``gradcam study``: makes questionnaires, and scores the answers that come back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from gradcam_service.cli_options import separated
from gradcam_service.cli_settings import opened, validated
from gradcam_service.errors import BadRequest
from gradcam_service.kinds import Kinds, load_plugins, no_such
from gradcam_service.settings import Settings

if TYPE_CHECKING:
    from gradcam_service.evaluate.studies import Study
    from gradcam_service.local import Local

_SIDE = 360
"""Pixels of a picture's longest side on a page."""
_DRAWN = 20
"""For each picture that is asked about, of a data set that is drawn: of scenes, one in four is of just two classes."""


class _Studies(click.Group):
    """A command for each kind of study, those of plugins too, which are looked up when one of them is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All kinds, and what else there is."""
        return [*_kinds(), *super().list_commands(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The one of that name."""
        return super().get_command(context, name) or (_making(name, _kinds()[name]) if name in _kinds() else None)


def _kinds() -> Kinds[Study]:
    from gradcam_service.evaluate.studies import STUDIES

    load_plugins(validated(Settings).plugins)
    return STUDIES


@click.group(cls=_Studies)
def study() -> None:
    """Ask people what maps tell them: a page with pictures and no key in it, and a score of the answers."""


def _making(name: str, kind: Study) -> click.Command:
    """The command that makes a study of a kind."""
    folder = click.Path(file_okay=False, path_type=Path)
    against = click.Option(["--against"], required=True, help="The model that --model is compared with.")
    return click.Command(
        name,
        params=[
            click.Argument(["data"]),
            click.Option(["--model"], help="name, name@version or name@alias.  [default: GRADCAM_DEFAULT_MODEL]"),
            *([against] if kind.models == 2 else []),
            click.Option(["--methods"], callback=separated, help="Separated by commas.  [default: the model's own]"),
            click.Option(
                ["--pictures"], type=click.IntRange(1), default=20, show_default=True, help="Asked about, by lot."
            ),
            click.Option(
                ["--seed"], type=click.IntRange(0), default=0, show_default=True, help="Of whatever is by lot."
            ),
            click.Option(["-o", "folder"], type=folder, required=True, help="Folder to make, of the page and its key."),
        ],
        callback=lambda **given: _make(name, kind, _Order(**given)),
        help=f"{kind.offer} Each of PICTURES is asked about once by each method.\n\n"
        f"DATA is as of gradcam evaluate; {kind.about} are asked about.",
    )


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

    key, kinds = key_of(folder), _kinds()
    if key.study not in kinds:
        raise BadRequest(f"{folder}: {no_such(key.study, kinds)}; a plugin's is scored where that plugin is")
    found, problems = collected(answers, key)
    report.mkdir(parents=True, exist_ok=True)
    for line in write(report, scored(key, kinds[key.study], found, problems)):
        click.echo(line)


@dataclass(frozen=True)
class _Order:
    """Questionnaire that was ordered on the command line."""

    data: str
    model: str | None
    methods: tuple[str, ...]
    pictures: int
    seed: int
    folder: Path
    against: str | None = None


def _make(name: str, kind: Study, order: _Order) -> None:
    from gradcam_service.evaluate import datasets
    from gradcam_service.evaluate.questionnaire import KEY, PAGE, prepared, questions, write

    models = _models(order)
    prepared(order.folder)
    card = models[0].model.card
    methods = list(dict.fromkeys(order.methods or [card.method]))
    for local in models:
        for method in methods:
            local.model.card.check_question(method, "auto", {})
    collected = datasets.collect(datasets.Source(order.data, limit=_DRAWN * order.pictures), card.labels)
    asking = kind.asking(*models, _SIDE)
    with tqdm(unit=" questions", disable=not sys.stderr.isatty()) as bar:
        asked, problems = questions(asking, collected.samples, methods, order.pictures, order.seed, bar.update)
    versions = {local.key: local.model.card.digest for local in models}
    write(order.folder, name, kind, asked, order.data, versions, order.seed)
    for problem in sorted({*collected.problems, *problems}):
        click.echo(f"left out or changed: {problem.kind}: {problem.sample}: {problem.detail}")
    click.echo(f"{len(asked)} questions about {len(asked) // len(methods)} pictures by {', '.join(methods)}")
    click.echo(f"→ {order.folder / PAGE}, to be given to participants; {order.folder / KEY}, to be kept from them")


def _models(order: _Order) -> list[Local]:
    """The models that are asked about, the first of which is the one that counts.

    Raises:
        click.UsageError: a model is to be compared with itself.
        BadRequest: one is of another task.
    """
    models = [opened(order.model), *([] if order.against is None else [opened(order.against)])]
    if len({local.key for local in models}) < len(models):
        raise click.UsageError(f"--model and --against are both {models[0].key}; two different models are compared")
    for local in models:
        if (task := local.model.card.task) not in (able := _tasks()):
            raise BadRequest(f"{local.key} is a model of {task}; studies take those of {' and '.join(able)}")
    return models


def _tasks() -> list[str]:
    """Whose models say which class a picture is of, and take the picture alone."""
    from gradcam_service.tasks import TASKS

    return [name for name, task in TASKS.items() if task.of_classes and task.text is None]
