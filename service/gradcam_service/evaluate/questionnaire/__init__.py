"""Questionnaire: a page that needs nothing but itself, and its key, which stays with whoever asks."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from gradcam_service import __version__
from gradcam_service.errors import BadRequest
from gradcam_service.evaluate.questionnaire.lots import drawn_by_lot, rounds
from gradcam_service.evaluate.sample import Problem, Sample
from gradcam_service.evaluate.studies import Asked, Asking, Question, Study

PAGE = "questionnaire.html"
KEY = "key.json"


class Key(msgspec.Struct, frozen=True):
    """Key of a questionnaire.

    Attributes:
        id: of the page, by which answers to it are known.
        study: its kind's name.
        data: the data set, as it was named.
        models: ``name@version`` and digest of each.
        seed: of whatever was by lot.
        version: of this package.
        questions: in the page's order, in which they are numbered from 1 on.
    """

    id: str
    study: str
    data: str
    models: dict[str, str]
    seed: int
    version: str
    questions: list[Asked]

    def asked(self, number: str) -> Asked | None:
        """The question of a number, as answers have it; None of none."""
        place = int(number) if number.isascii() and number.isdigit() else 0
        return self.questions[place - 1] if 1 <= place <= len(self.questions) else None


_decode = msgspec.json.Decoder(Key).decode


def questions(
    asking: Asking,
    samples: Sequence[Sample],
    methods: Sequence[str],
    count: int,
    seed: int,
    progress: Callable[[int], object] = lambda _: None,
) -> tuple[list[Question], list[Problem]]:
    """The questions about so many samples by every method, in the page's order, and what can't be asked about.

    Raises:
        ServiceError: nothing can, or a picture can be predicted and not explained.
    """
    lot = random.Random(seed)
    chosen, problems = drawn_by_lot(samples, count, asking.suits, seed)
    found = []
    for of_round in rounds(chosen, methods, seed):
        for sample, method in of_round:
            found.append(asking.ask(sample, method, lot))
            progress(1)
    return found, problems


def prepared(folder: Path) -> None:
    """Make the folder of a questionnaire.

    Raises:
        BadRequest: it has a key already, to which answers may still come back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / KEY).exists():
        raise BadRequest(f"{folder} has a questionnaire already; another -o makes another")


def write(
    folder: Path, name: str, study: Study, asked: Sequence[Question], data: str, models: dict[str, str], seed: int
) -> None:
    """Write the page and its key into a folder that `prepared` has made."""
    shown = [
        {"prompt": each.prompt, "pictures": [*map(list, each.pictures)], "answers": [*each.asked.worth]}
        for each in asked
    ]
    identity = hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:16]
    page = _template().render(study=study, content={"id": identity, "questions": shown}, count=len(shown))
    (folder / PAGE).write_text(page, encoding="utf-8")
    key = Key(identity, name, data, models, seed, __version__, [each.asked for each in asked])
    (folder / KEY).write_bytes(msgspec.json.format(msgspec.json.encode(key)) + b"\n")


def key_of(folder: Path) -> Key:
    """The key of a questionnaire's folder.

    Raises:
        BadRequest: it has none that can be read.
    """
    try:
        return _decode((folder / KEY).read_bytes())
    except OSError as error:
        raise BadRequest(f"{folder} has no {KEY}: {error.strerror}; gradcam study makes it beside the page") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"{folder / KEY} can't be read: {error}") from error


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(
        "page.html.jinja"
    )
