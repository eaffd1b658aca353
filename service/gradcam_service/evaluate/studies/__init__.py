"""Studies with people, one file each: what is asked, and what answers are worth."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from gradcam_service.evaluate.protocols import Figure
from gradcam_service.evaluate.sample import Sample
from gradcam_service.kinds import Kinds

PAPER = "https://arxiv.org/abs/1610.02391"


class Asking(Protocol):
    """What makes a study's questions, of the models that it was made of."""

    def suits(self, sample: Sample) -> bool:
        """Whether a sample can be asked about.

        Raises:
            ServiceError: the picture can't be predicted.
            OSError: or not be read.
        """

    def ask(self, sample: Sample, method: str, lot: random.Random) -> Question:
        """A question about it.

        Raises:
            ServiceError: the picture can't be explained.
            OSError: or not be read.
        """


@dataclass(frozen=True)
class Study:
    """A kind of study.

    Attributes:
        title: of the page and of the report.
        offer: what is asked, in a sentence.
        about: which pictures it asks about.
        asking: makes what asks, of the models and of the most pixels of a picture's longest side.
        instruction: what participants are told before they begin.
        summary: what its figures mean, and what they don't, in a sentence or two.
        figures: what answers are worth, and what the majority of each question's is.
        value: makes a figure of what an answer is worth: a bool of what is right or wrong.
        models: that it is about; of two the second is what the first is compared with.
        paper: its address.
    """

    title: str
    offer: str
    about: str
    asking: Callable[..., Asking]
    instruction: str
    summary: str
    figures: Mapping[str, Figure]
    value: Callable[[float], float | bool]
    models: Literal[1, 2] = 1
    paper: str = PAPER


class Asked(msgspec.Struct, frozen=True):
    """What the key has of a question.

    Attributes:
        picture: the sample's name.
        method: of the map.
        label: the class that the map is of.
        worth: of each answer, in the order in which the page offers them.
    """

    picture: str
    method: str
    label: str
    worth: dict[str, float]

    @property
    def neutral(self) -> float:
        """What an answer by lot is worth."""
        return sum(self.worth.values()) / len(self.worth)


@dataclass(frozen=True)
class Question:
    """A question, as the page asks it.

    Attributes:
        asked: what the key has of it, and the page hasn't, but for the answers that it offers.
        prompt: the question.
        pictures: what it is about: a caption, which may be empty, and a data URI each.
    """

    asked: Asked
    prompt: str
    pictures: Sequence[tuple[str, str]]


STUDIES: Kinds[Study] = Kinds(__name__, "STUDY")
