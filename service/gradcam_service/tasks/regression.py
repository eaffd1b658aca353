"""Regression, how much of something an image shows, such as an age or a dose: values, which are no probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from gradcam_service.targets import Target
from gradcam_service.tasks import Entries, Labelled, Task


@dataclass(frozen=True)
class PredictedValue:
    """One value that the model gives."""

    index: int
    label: str
    value: Annotated[float, Field(description="in the units that the model was trained for")]

    def __str__(self) -> str:
        return f"{self.value:9.4g}  {self.index:4}  {self.label}"


@dataclass(frozen=True)
class Values:
    """Prediction of a regressor for one image."""

    predictions: Annotated[list[PredictedValue], Field(description="every value, in the model's order")]

    def __str__(self) -> str:
        return "\n".join(map(str, self.predictions))


class Regression(Task):
    """The task ``regression``; see `gradcam_service.tasks.Task`."""

    prediction = Values
    entries = Entries("value", "values", values=True)
    of_classes = False
    activations = ("identity",)

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Values:
        """All values; none is more probable than another, so that ``top_k`` leaves nothing out."""
        named = zip(model.labels, scores.tolist(), strict=True)
        return Values([PredictedValue(index, label, value) for index, (label, value) in enumerate(named)])

    def default_target(self, scores: np.ndarray) -> Target:
        """The first value, mostly the only one."""
        return Target("value", 0)


TASK = Regression()
