"""Visual question answering: answers about an image, ranked for the question that a request asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from gradcam_service.tasks import Entries, Labelled, Task, TextOption
from gradcam_service.tasks.classification import Prediction, most_probable


@dataclass(frozen=True)
class RankedAnswers:
    """Answers of a model to a question about an image."""

    answers: Annotated[list[Prediction], Field(description="answers to the question, the most probable first")]

    def __str__(self) -> str:
        return "\n".join(map(str, self.answers))


class Vqa(Task):
    """The task ``vqa``; see `gradcam_service.tasks.Task`."""

    prediction = RankedAnswers
    entries = Entries("answer", "answers", "What it answers", "answers")
    text = TextOption(
        "question",
        "what is asked about the image, of a model of task `vqa`, which needs it",
        required=True,
        label="Question",
    )

    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> RankedAnswers:
        """The ``top_k`` most probable answers."""
        return RankedAnswers(most_probable(model, scores, top_k))


TASK = Vqa()
