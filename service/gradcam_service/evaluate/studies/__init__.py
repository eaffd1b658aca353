"""Studies with people, one file each: what is asked, and what answers are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gradcam_service.evaluate.protocols import Figure
from gradcam_service.kinds import Kinds

PAPER = "https://arxiv.org/abs/1610.02391"


@dataclass(frozen=True)
class Study:
    """A kind of study.

    Attributes:
        title: of the page and of the report.
        instruction: what participants are told before they begin.
        summary: what its figures mean, and what they don't, in a sentence or two.
        figures: what answers are worth, and what the majority of each question's is.
        value: makes a figure of what an answer is worth: a bool of what is right or wrong.
        paper: its address.
    """

    title: str
    instruction: str
    summary: str
    figures: Mapping[str, Figure]
    value: Callable[[float], float | bool]
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
