"""Classification of what an image shows: one of several classes (softmax), or any number of them (sigmoid)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from gradcam_service.explain.activation import UNCHANGED
from gradcam_service.tasks import Labelled, Task


@dataclass(frozen=True)
class Prediction:
    """One class and how the model scores it."""

    index: int
    label: str
    logit: Annotated[float, Field(description="the score before the activation")]
    probability: Annotated[
        float,
        Field(description="the score after it: softmax, sigmoid for a multi-label model, or the score itself"),
    ]

    def __str__(self) -> str:
        return f"{self.probability:7.3f}  {self.index:4}  {self.label}"


@dataclass(frozen=True)
class Classes:
    """Prediction of a classifier for one image."""

    predictions: Annotated[list[Prediction], Field(description="the most probable classes, the most probable first")]

    def __str__(self) -> str:
        return "\n".join(map(str, self.predictions))


class Classification(Task):
    """The task ``classification``; see `gradcam_service.tasks.Task`."""

    prediction = Classes

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Classes:
        """The ``top_k`` most probable classes."""
        return Classes(most_probable(model, scores, top_k))


def most_probable(model: Labelled, scores: np.ndarray, top_k: int) -> list[Prediction]:
    """The ``top_k`` most probable classes of scores (classes,), the most probable first; of equals the lower index."""
    probability = probabilities(scores, model.activation)
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    return [Prediction(i, model.labels[i], float(scores[i]), float(probability[i])) for i in order]


def probabilities(scores: np.ndarray, activation: str) -> np.ndarray:
    """Scores (classes,) in logit units → probabilities (classes,) float64; without an activation, the scores."""
    logits = scores.astype(np.float64)
    if activation in UNCHANGED:
        return logits
    if activation == "sigmoid":
        return 0.5 * (1.0 + np.tanh(0.5 * logits))  # the logistic function without overflow
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum())


TASK = Classification()
