"""A made-up task: classes are stages in their order, and what counts is the stage expected between them.

Its targets are stages, ``{"stage": "bud"}``, which it tells of in its own way.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from gradcam_service.registry.card import Card
from gradcam_service.targets import Target
from gradcam_service.targets.class_ import Class
from gradcam_service.tasks import Entries, Labelled, Task
from gradcam_service.tasks.classification import Prediction, most_probable, probabilities


@dataclass(frozen=True)
class Maturity:
    """What the model says about one image."""

    maturity: Annotated[float, Field(description="the expected stage, 0 for the first")]
    nearest: Annotated[str, Field(description="the label of the stage that is nearest to it")]
    stages: Annotated[list[Prediction], Field(description="the most probable stages, the most probable first")]


@dataclass(frozen=True)
class Stage:
    """A stage that was explained."""

    stage: int
    label: str
    chosen: Literal["request", "nearest"]


class Ordered(Task):
    """The task; see `gradcam_service.tasks.Task`."""

    prediction = Maturity
    entries = Entries("stage", "stages", title="How far it is", member="stages", target="stage")

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Maturity:
        nearest = model.labels[round(expected(scores))]
        return Maturity(expected(scores), nearest, most_probable(model, scores, top_k))

    def default_target(self, scores: np.ndarray) -> Target:
        return Target("maturity", round(expected(scores)))


class Stages(Class):
    """Its kind of target; see `gradcam_service.targets.TargetKind`. It is explained as a class is."""

    schema: ClassVar = {
        "type": "object",
        "properties": {"stage": Class.schema},
        "required": ["stage"],
        "additionalProperties": False,
        "description": 'a stage, {"stage": S}',
    }
    described = Stage

    def reads(self, written: object) -> bool:
        return isinstance(written, dict) and written.keys() == {"stage"}

    def checked(self, written: dict, card: Card) -> int:
        return card.class_index(written["stage"])

    def describe(self, value: int, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool) -> Stage:
        return Stage(value, card.labels[value], "request" if asked else "nearest")


def expected(scores: np.ndarray) -> float:
    """The mean of the stages' numbers, weighed by their probabilities."""
    return float(probabilities(scores, "softmax") @ np.arange(len(scores)))


TASK = Ordered()
TARGET = Stages()
