"""A value of a regressor, by index or label: what raises it is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gradcam_service.targets.class_ import Class
from gradcam_service.tasks.regression import PredictedValue

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card


@dataclass(frozen=True)
class ExplainedValue(PredictedValue):
    """The value that is explained."""

    chosen: Literal["request", "default"]


class Value(Class):
    """See `gradcam_service.targets.TargetKind`. A value of this kind is the index of one of the model's values."""

    schema: ClassVar[dict[str, Any]] = {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "description": "of a regressor, one of its values, by index or label",
    }
    described = ExplainedValue
    tasks = ("regression",)

    def describe(self, value: int, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool) -> Any:  # noqa: ANN401  as `TargetKind`'s
        """As a prediction tells of it."""
        return ExplainedValue(value, card.labels[value], float(scores[value]), "request" if asked else "default")


TARGET = Value()
