"""Policy of an agent in what it sees: actions, and the value of the state where its network gives one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from gradcam_service.tasks import Entries, Labelled, Task
from gradcam_service.tasks.classification import Prediction, most_probable


@dataclass(frozen=True)
class Actions:
    """Actions of an agent in a state."""

    actions: Annotated[list[Prediction], Field(description="what an agent would do, the most probable first")]
    value: Annotated[
        float | None, Field(description="the return that the agent expects from here on, where its network says so")
    ]

    def __str__(self) -> str:
        value = [] if self.value is None else [f"{self.value:7.3f}        value of the state"]
        return "\n".join([*map(str, self.actions), *value])


class Policy(Task):
    """The task ``policy``; see `gradcam_service.tasks.Task`."""

    prediction = Actions
    entries = Entries("action", "actions", "What it would do", "actions", beside="value of the state")
    of_classes = False
    has_value = True

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Actions:
        """The ``top_k`` most probable actions, and the value of the state."""
        logits, values = scores[: len(model.labels)], scores[len(model.labels) :]
        return Actions(most_probable(model, logits, top_k), float(values[0]) if len(values) else None)


TASK = Policy()
