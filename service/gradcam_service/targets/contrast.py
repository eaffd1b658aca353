"""A class against others, why P rather than Q: y_P less the mean of the others' logits is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from gradcam_service.errors import BadOption, UnknownTarget
from gradcam_service.explain import objectives
from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.objectives import Objective
from gradcam_service.targets import TargetKind
from gradcam_service.tasks.classification import Prediction

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card

_REST = "rest"
_CLASS = {"anyOf": [{"type": "integer"}, {"type": "string"}]}

Value = tuple[int, Sequence[int]]
"""P, and the classes that it is compared with; none for all others."""


@dataclass(frozen=True)
class Other:
    """A class that another is compared with."""

    index: int
    label: str


@dataclass(frozen=True)
class ExplainedContrast(Prediction):
    """The class that is explained, and what it is compared with."""

    against: Annotated[
        list[Other] | Literal["rest"], Field(description="what it is compared with; `rest`: all other classes")
    ]
    value: Annotated[float, Field(description="what is explained: its logit less the mean of the others'")]
    chosen: Literal["request"] = "request"

    def __str__(self) -> str:
        others = [] if isinstance(self.against, str) else [other.label for other in self.against]
        return f"{super().__str__()} rather than {' or '.join(others) or 'the rest'}"


class Contrast(TargetKind):
    """See `gradcam_service.targets.TargetKind`."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "class": _CLASS,
            "against": {"anyOf": [*_CLASS["anyOf"], {"type": "array", "items": _CLASS, "minItems": 1}]},
        },
        "required": ["class", "against"],
        "additionalProperties": False,
        "description": 'a class against others, {"class": P, "against": Q}, Q one, a list or "rest", all others',
    }
    described = ExplainedContrast
    is_difference = True
    differentiable = True

    def reads(self, written: object) -> bool:
        """Objects that say what a class is compared with."""
        return isinstance(written, dict) and "against" in written

    def checked(self, written: dict[str, Any], card: Card) -> Value:
        """The indices of the classes, each once."""
        if written.keys() != {"class", "against"}:
            raise BadOption(f"option 'target': {self.schema['description']}; not {', '.join(written)}")
        own = _index(written["class"], card)
        if written["against"] == _REST:
            if len(card.labels) < 2:
                raise UnknownTarget("the model has one class alone; there is no rest to compare it with")
            return own, ()
        listed = written["against"] if isinstance(written["against"], list) else [written["against"]]
        if not listed:
            raise BadOption("option 'target': against names no class")
        others = tuple(dict.fromkeys(_index(other, card) for other in listed))
        if own in others:
            raise UnknownTarget(f"{card.labels[own]!r} can't be compared with itself")
        return own, others

    def objective(self, values: Sequence[Value], outputs: Array) -> Objective:
        """y_P − mean y_Q. Rows with fewer others are filled up with class 0, of weight 0."""
        xp, device = arrays(outputs), outputs.device
        classes = outputs.shape[1]
        others = [list(against or (i for i in range(classes) if i != own)) for own, against in values]
        longest = max(map(len, others))
        padded = xp.asarray([row + [0] * (longest - len(row)) for row in others], device=device)
        shares = [[1 / len(row)] * len(row) + [0.0] * (longest - len(row)) for row in others]
        weights = xp.asarray(shares, dtype=xp.float64, device=device)
        own = xp.asarray([own for own, _ in values], device=device)
        return objectives.Contrast(own, padded, weights)

    def describe(
        self, value: Value, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool
    ) -> ExplainedContrast:
        """P as a prediction tells of it, what it was compared with, and by how much its logit is above."""
        own, others = value
        logits = scores[: len(card.labels)].astype("float64")
        mean = logits[list(others)].mean() if others else (logits.sum() - logits[own]) / (len(logits) - 1)
        return ExplainedContrast(
            own,
            card.labels[own],
            float(scores[own]),
            float(probability[own]),
            against=[Other(index, card.labels[index]) for index in others] or "rest",
            value=float(logits[own] - mean),
        )

    def name(self, value: Value, card: Card) -> str:
        """The labels of the class and of what it is compared with."""
        own, others = value
        return f"{card.labels[own]} rather than {' or '.join(card.labels[other] for other in others) or 'the rest'}"


def _index(written: object, card: Card) -> int:
    if isinstance(written, bool) or not isinstance(written, int | str):
        raise BadOption("option 'target': class and against are classes, by index or label")
    return card.class_index(written)


TARGET = Contrast()
