"""The value of a state, as an agent's network gives it beside its actions: what raises it is explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from gradcam_service.errors import UnknownTarget
from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.objectives import Logit, Objective
from gradcam_service.targets import TargetKind

if TYPE_CHECKING:
    import numpy as np

    from gradcam_service.registry.card import Card

_WRITTEN = {"output": "value"}


@dataclass(frozen=True)
class ExplainedStateValue:
    """The value that is explained."""

    output: Literal["value"]
    value: Annotated[float, Field(description="the return that the agent expects")]

    def __str__(self) -> str:
        return f"{self.value:7.3f}        value of the state"


class StateValue(TargetKind):
    """See `gradcam_service.targets.TargetKind`. A value of this kind is the place of the value among the outputs."""

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"output": {"const": "value"}},
        "required": ["output"],
        "additionalProperties": False,
        "description": 'of an agent that gives it, the value of the state, {"output": "value"} or value by itself',
    }
    described = ExplainedStateValue
    differentiable = True
    tasks = ("policy",)
    beside_classes = True

    def reads(self, written: object) -> bool:
        """Objects that name an output, and its name by itself, which comes before an action's."""
        return written == _WRITTEN["output"] or (isinstance(written, dict) and "output" in written)

    def checked(self, written: str | dict[str, Any], card: Card) -> int:
        """Its place behind the actions' logits."""
        if written not in (_WRITTEN["output"], _WRITTEN):
            raise UnknownTarget(f"option 'target': {self.schema['description']}, is the only output that has a name")
        if not card.has_value:
            raise UnknownTarget("the model gives no value beside its actions; one of these would work")
        return len(card.labels)

    def objective(self, values: Sequence[int], outputs: Array) -> Objective:
        """The state's value V, the network's last output."""
        return Logit(arrays(outputs).asarray(values, device=outputs.device))

    def describe(
        self, value: int, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool
    ) -> ExplainedStateValue:
        """The value itself."""
        return ExplainedStateValue("value", float(scores[value]))

    def name(self, value: int, card: Card) -> str:
        """The value's name, which is the same of all states."""
        return "value"


TARGET = StateValue()
