"""Case that protocols measure: a sample as one method explains it, and what else may be asked of the model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np

from gradcam_service.evaluate.metrics.arrays import Floats, Value
from gradcam_service.evaluate.sample import Mask, Sample, at_input
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.canvas import upsample
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.images.scale import plane
from gradcam_service.registry.card import Card
from gradcam_service.tasks.classification import probabilities

if TYPE_CHECKING:
    from gradcam_service.registry.loader import LoadedModel


Found = TypeVar("Found")


class Asked(Protocol):
    """The model, as protocols ask it: `gradcam_service.evaluate.explainer.Explainer`."""

    @property
    def model(self) -> LoadedModel:
        """What is evaluated."""

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        """Scores (N, classes) float32, logit units, of pictures (N, C, H, W) as the network receives them."""

    def explain(self, pictures: np.ndarray, method: str, label: int) -> np.ndarray:
        """Maps (N, h, w) or (N, H, W, C) of a class in each of such pictures."""


@dataclass(frozen=True, eq=False)
class Case:
    """A sample as one method explains it.

    Attributes:
        sample: its boxes and masks lie in its picture.
        method: a name in `METHODS`.
        prepared: what the model saw of the picture.
        image: (C, H, W) float32, the same as the network receives it, normalised.
        predicted: (classes,) float32, the scores in logit units.
        raw: maps (h, w) or (H, W, C) float32 of the sample's classes, and of as many of the model's top classes as the
            protocol asks for.
        asked: the model.
        seed: of whatever is random.
        known: what `once` has found of the sample, which all cases of it share.
    """

    sample: Sample
    method: str
    prepared: PreparedImage
    image: np.ndarray
    predicted: np.ndarray
    raw: Mapping[int, np.ndarray]
    asked: Asked
    seed: int
    known: dict[Hashable, Any] = field(default_factory=dict)
    _saliency: dict[int, Floats] = field(default_factory=dict, init=False)

    @property
    def card(self) -> Card:
        """What the model says of itself."""
        return self.asked.model.card

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(classes,) float64, of the scores."""
        return probabilities(self.predicted, self.card.activation)

    def top(self, k: int) -> list[int]:
        """The k classes of the highest scores, the highest first."""
        return [int(index) for index in np.argsort(-self.predicted, kind="stable")[:k]]

    def map(self, label: int) -> Floats:
        """The map of a class, (h, w), in its own units; of signed colours, how much in all."""
        return plane(self.raw[label], METHODS[self.method].kind)

    def saliency(self, label: int) -> Floats:
        """The same as large as the network's input, (H, W): bilinear, in its own units."""
        if label not in self._saliency:
            self._saliency[label] = self._stretched(self.map(label))
        return self._saliency[label]

    def where(self, label: int) -> Mask | None:
        """The pixels (H, W) of the network's input that a class's masks, else boxes, cover; None if none are known.

        Where the model sees nothing of them, as they are cropped away, that is no pixel at all.
        """
        mask = self.sample.where(label, self.prepared.image_size)
        return None if mask is None else at_input(mask, self.prepared)

    def value(self, label: int, of: Literal["probability", "logit"] = "probability", always: Hashable = None) -> Value:
        """What the network says of a class in pictures (N, C, H, W): (N,).

        Args:
            label: index of the class.
            of: what is told of it.
            always: all that decides the pictures besides the sample, where neither method nor class do: those of one
                such name are scored once.
        """

        def ask(pictures: np.ndarray) -> Floats:
            scores = self.asked.scores(pictures) if always is None else self._once_scored(always, pictures)
            if of == "logit":
                return scores[:, label].astype(np.float64)
            return np.stack([probabilities(row, self.card.activation) for row in scores])[:, label]

        return ask

    def explain(self, pictures: np.ndarray, label: int, method: str | None = None) -> Floats:
        """Maps (N, H, W), as large as their pictures (N, C, H, W), of a class by this method or another."""
        wanted = method or self.method
        maps = self.asked.explain(pictures, wanted, label)
        return np.stack([self._stretched(plane(own, METHODS[wanted].kind)) for own in maps])

    def once(self, of: Hashable, work: Callable[[], Found]) -> Found:
        """What work makes of the sample whichever method explains it, worked out for the first of them.

        Args:
            of: all that it depends on, besides the picture and the model.
            work: takes nothing of the method.
        """
        if of not in self.known:
            self.known[of] = work()
        found: Found = self.known[of]
        return found

    def _once_scored(self, of: Hashable, pictures: np.ndarray) -> np.ndarray:
        return self.once(of, lambda: self.asked.scores(pictures))

    def _stretched(self, own: Floats) -> Floats:
        height, width = self.card.preprocess.input_size
        whole = (0, 0, width, height)
        return np.asarray(upsample(np.ascontiguousarray(own, np.float32), Region(*whole), whole))
