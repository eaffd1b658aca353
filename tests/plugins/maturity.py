"""A made-up task: classes are stages in their order, and what counts is the stage expected between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from gradcam_service.tasks import Labelled
from gradcam_service.tasks.classification import probabilities


@dataclass(frozen=True)
class Maturity:
    """What the model says about one image."""

    maturity: Annotated[float, Field(description="the expected stage, 0 for the first")]
    nearest: Annotated[str, Field(description="the label of the stage that is nearest to it")]


@dataclass(frozen=True)
class Stage:
    """A stage that was explained."""

    stage: int
    label: str
    chosen: Literal["request", "nearest"]


class Ordered:
    """The task; see `gradcam_service.tasks.Task`."""

    prediction = Maturity
    target = Stage

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Maturity:
        return Maturity(expected(scores), model.labels[self.default_target(scores)])

    def default_target(self, scores: np.ndarray) -> int:
        return round(expected(scores))

    def describe(self, model: Labelled, scores: np.ndarray, targets: Sequence[int], asked: bool) -> list[Stage]:
        return [Stage(target, model.labels[target], "request" if asked else "nearest") for target in targets]


def expected(scores: np.ndarray) -> float:
    """The mean of the stages' numbers, weighed by their probabilities."""
    return float(probabilities(scores, "softmax") @ np.arange(len(scores)))


TASK = Ordered()
