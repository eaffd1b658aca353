"""A class, by index or label: its logit is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.objectives import Logit, Objective
from gradcam_service.targets import TargetKind
from gradcam_service.tasks.classification import Prediction

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class ExplainedClass(Prediction):
    """The class that is explained."""

    chosen: Literal["request", "top-1"]


class Class(TargetKind):
    """See `gradcam_service.targets.TargetKind`. A value is the class's index."""

    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "description": "a class, by index or label",
    }
    described: ClassVar[type] = ExplainedClass
    is_logit = True
    differentiable = True

    def reads(self, written: object) -> bool:
        """Numbers and words."""
        return isinstance(written, int | str) and not isinstance(written, bool)

    def checked(self, written: int | str, card: Card) -> int:
        """The index of the class."""
        return card.class_index(written)

    def objective(self, values: Sequence[int], outputs: Array) -> Objective:
        """The class's score y_c, in logit units."""
        return Logit(arrays(outputs).asarray(values, device=outputs.device), outputs.shape[1])

    def describe(self, value: int, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool) -> Any:  # noqa: ANN401  of `described`
        """As a prediction tells of it."""
        chosen: Literal["request", "top-1"] = "request" if asked else "top-1"
        return ExplainedClass(value, card.labels[value], float(scores[value]), float(probability[value]), chosen)

    def name(self, value: int, card: Card) -> str:
        """The class's label."""
        return card.labels[value]


TARGET = Class()
