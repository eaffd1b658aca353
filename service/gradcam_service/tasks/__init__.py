"""Tasks of models, one file each: what their outputs mean, and what of them is explained. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gradcam_service.kinds import Kinds
from gradcam_service.targets import Target


class Labelled(Protocol):
    """Model, as far as a task needs to know it."""

    @property
    def labels(self) -> Sequence[str]:
        """One for each score."""

    @property
    def activation(self) -> str:
        """What makes probabilities of scores, as ``model.yaml`` says."""


class Task(Protocol):
    """Task that a model was trained for.

    One whose scores no softmax or sigmoid is for says in ``activations`` what is; see `activations`.
    """

    @property
    def prediction(self) -> type:
        """The dataclass that `predict` returns; its fields are members of a result in JSON, with their descriptions.

        As a string it is what the command line prints.
        """

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Any:  # noqa: ANN401  an instance of `prediction`
        """What the model says about one image: scores (classes,) in logit units."""

    def default_target(self, scores: np.ndarray) -> Target:
        """What is explained where the caller names nothing."""


TASKS: Kinds[Task] = Kinds(__name__, "TASK")


def activations(task: Task) -> Sequence[str]:
    """What ``activation`` in ``model.yaml`` may be, of a model for this task; the first is the default."""
    return getattr(task, "activations", ("softmax", "sigmoid", "none"))
