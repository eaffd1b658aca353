"""Explainer of a data set's pictures: batches through the model that `gradcam explain` asks, on its fastest runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
import torch

from gradcam_service.errors import ModelFailed, NonFinite, ServiceError, in_one_line
from gradcam_service.evaluate.journal import Entry
from gradcam_service.explain import batch
from gradcam_service.explain.frontier import Frontier
from gradcam_service.local import Local
from gradcam_service.question import Question
from gradcam_service.registry.acceleration import accelerated
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.runtime import RUNTIMES
from gradcam_service.targets import Target, objective

Answer = TypeVar("Answer")


def on_fastest_runtime(local: Local, before: Entry | None = None) -> Local:
    """The same model on the fastest runtime that computes the same, as the service has it a little after its start.

    Args:
        local: the model, as it was loaded.
        before: what is gone on with, on the runtime and in the precision of which the model stays unless others are
            named: another may be the fastest today, and its last digits are others.
    """
    model, settings = local.in_torch("an evaluation"), local.settings
    if before is not None and model.spec.runtime in ("auto", before.runtime) and before.runtime in {"eager", *RUNTIMES}:
        stays = {"runtime": before.runtime}
        if (model.spec.precision or settings.precision) == "auto":
            stays["precision"] = before.precision
        model = replace(model, spec=model.spec.model_copy(update=stays))
    faster = accelerated(model, settings.precision, settings.cache_bytes)
    chosen = faster if isinstance(faster, LoadedModel) else model
    return replace(local, model=chosen, entry=msgspec.structs.replace(local.entry, card=chosen.card))


@dataclass(frozen=True, eq=False)
class Predicted:
    """Batch of pictures that has been predicted.

    Attributes:
        images: (N, C, H, W), on the device.
        others: the network's other inputs, likewise, N rows each.
        frontier: what crosses the cut at the default layer.
        scores: (N, classes), on the device.
    """

    images: torch.Tensor
    others: tuple[torch.Tensor, ...]
    frontier: Frontier
    scores: torch.Tensor

    def image(self, row: int) -> np.ndarray:
        """One picture as the network receives it, (C, H, W) float32."""
        return self.images[row].cpu().numpy()

    def score(self, row: int) -> np.ndarray:
        """Its scores (classes,) float32."""
        return self.scores[row].float().cpu().numpy()


@dataclass(frozen=True)
class Explainer:
    """A model, asked by the batch; see `gradcam_service.evaluate.case.Asked`.

    Attributes:
        local: on the runtime that answers.
        tokens: (T,) int64, the question about pictures that are asked of without one of their own; None where the
            model takes none.
    """

    local: Local
    tokens: np.ndarray | None = None

    @property
    def model(self) -> LoadedModel:
        """What is evaluated."""
        return self.local.in_torch("an evaluation")

    def predict(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> Predicted:
        """Predict a batch of prepared pictures.

        Raises:
            ModelFailed: the model fails on them.
        """
        return _blamed(lambda: self._predict(*self.model.batch(inputs)))

    def maps(self, of: Predicted, method: str, labels: Sequence[Sequence[int]]) -> list[dict[int, np.ndarray]]:
        """Maps of classes in each picture, (h, w) or (H, W, C) float32, by class; of none, where none are wanted.

        Raises:
            ModelFailed: the model fails on them.
        """
        return _blamed(lambda: self._maps(of, method, labels))

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        """See `gradcam_service.evaluate.case.Asked`."""
        return np.concatenate([part.scores.float().cpu().numpy() for part in self._parts(pictures)])

    def explain(self, pictures: np.ndarray, method: str, label: int) -> np.ndarray:
        """See `gradcam_service.evaluate.case.Asked`."""
        found = [self.maps(part, method, [[label]] * len(part.images)) for part in self._parts(pictures)]
        return np.stack([own[label] for part in found for own in part])

    def _parts(self, pictures: np.ndarray) -> list[Predicted]:
        device, size = self.model.device, self.model.card.batch
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(pictures, np.float32)).to(device), size)
        beside = () if self.tokens is None else (torch.from_numpy(self.tokens).to(device),)
        return [
            _blamed(partial(self._predict, part, *(text.expand(len(part), -1) for text in beside))) for part in parts
        ]

    def _predict(self, images: torch.Tensor, *others: torch.Tensor) -> Predicted:
        with self.model.network.undisturbed():
            return Predicted(images, others, *self.model.network.predict(images, *others))

    def _maps(self, of: Predicted, method: str, labels: Sequence[Sequence[int]]) -> list[dict[int, np.ndarray]]:
        network = self.model.network
        asked = [
            Question(method, targets=tuple(Target("class_", label) for label in own)) if own else None for own in labels
        ]
        with network.undisturbed():
            given = (of.frontier, of.scores, asked, self.model.card.batch, objective, of.others)
            answers = batch.explain(network, of.images, *given)
            explained = [_finished(answer) for answer in answers]
        return [
            {} if one is None else dict(zip(own, one.maps.numpy(), strict=True))
            for own, one in zip(labels, explained, strict=True)
        ]


def _finished(answer: batch.Explanation | batch.Explaining | None) -> batch.Explanation | None:
    """An explanation, all of whose steps are taken."""
    if answer is None or isinstance(answer, batch.Explanation):
        return answer
    while True:
        try:
            next(answer)
        except StopIteration as finished:
            found: batch.Explanation = finished.value
            return found


def _blamed(ask: Callable[[], Answer]) -> Answer:
    """Blame the model for what it raises, whatever its operators do."""
    try:
        return ask()
    except ServiceError:
        raise
    except Exception as error:
        raise ModelFailed(f"the model fails on these pictures: {in_one_line(error)}") from error


def check_finite(scores: np.ndarray, maps: Mapping[int, np.ndarray]) -> None:
    """Refuse an answer that is no number.

    Raises:
        NonFinite: a score or a map's value is none.
    """
    if not np.isfinite(scores).all() or not all(np.isfinite(own).all() for own in maps.values()):
        raise NonFinite("the model's answer to this picture is not finite (NaN or infinity)")
