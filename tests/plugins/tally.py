"""The task of saying what all a picture shows: every class that the model scores above zero, by its label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from gradcam_service.targets import Target
from gradcam_service.tasks import Labelled


@dataclass(frozen=True)
class Shown:
    """What a picture shows."""

    shown: Annotated[list[str], Field(description="the labels of all classes whose logit is positive")]


class Tally:
    """The task ``tally``; see `gradcam_service.tasks.Task`. A class of it is explained like any other."""

    prediction = Shown

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Shown:
        """The labels of at most ``top_k`` classes, in the model's order."""
        return Shown([label for label, score in zip(model.labels, scores, strict=True) if score > 0][:top_k])

    def default_target(self, scores: np.ndarray) -> Target:
        """The class with the highest score."""
        return Target("class_", int(scores.argmax()))


TASK = Tally()
