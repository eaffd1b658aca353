"""One batch through one model: pixels and questions in, scores and maps out, timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from service.errors import NonFinite
from service.explain import batch
from service.registry.loader import LoadedModel
from service.worker.messages import Answer, Question


@dataclass(frozen=True)
class BatchResult:
    """Answers in the order of the batch, and seconds of its two parts.

    An image whose scores or maps are not finite has an error in place of its answer.
    """

    answers: list[Answer | NonFinite]
    forward: float
    backward: float


def run(model: LoadedModel, pixels: Sequence[np.ndarray], questions: Sequence[Question | None]) -> BatchResult:
    """Predict a batch and explain those of its images that ask for it.

    Args:
        model: on its device.
        pixels: each (H, W, 3) uint8, the model's input size.
        questions: one for each image.
    """
    start = perf_counter()
    images = model.images(list(pixels))
    features, scores = model.network.predict(images)
    host_scores = scores.float().cpu().numpy()  # waits for the device
    predicted = perf_counter()
    explanations = batch.explain(model.network, images, features, scores, questions)
    answers = [_answer(*pair) for pair in zip(host_scores, explanations, strict=True)]
    return BatchResult(answers, predicted - start, perf_counter() - predicted)


def _answer(scores: np.ndarray, explanation: batch.Explanation | None) -> Answer | NonFinite:
    if explanation is None:
        answer = Answer(scores, (), "", np.empty((0, 0, 0), np.float32))
    else:
        answer = Answer(scores, explanation.targets, explanation.layer, explanation.maps.numpy())
    if np.isfinite(answer.scores).all() and np.isfinite(answer.maps).all():
        return answer
    return NonFinite("the model's answer to this image is not finite (NaN or infinity); another image may work")


def pick_device(name: str) -> torch.device:
    """``cpu``, ``cuda:N``, or the first GPU if there is one for ``auto``."""
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
