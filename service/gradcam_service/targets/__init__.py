"""Kinds of target, one file each: what of a model's outputs is explained. Torch-free.

A target is written in a request, checked against the model's card, sent to a worker as a `Target`, becomes an objective
there, and is told of in the answer; each kind's ``TARGET`` knows how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from gradcam_service.errors import BadOption, UnsupportedMethod, shortened
from gradcam_service.kinds import KindBase, Kinds

if TYPE_CHECKING:
    from gradcam_service.explain.arrays import Array
    from gradcam_service.explain.objectives import Objective
    from gradcam_service.registry.card import Card


class Target(msgspec.Struct, frozen=True, array_like=True):
    """Target of an explanation, on its way to a worker and back.

    Attributes:
        kind: its name in `TARGETS`.
        value: what the kind made of what was written; numbers, strings and lists of them.
    """

    kind: str
    value: Any


class TargetKind(KindBase, ABC):
    """A kind of target.

    Attributes:
        is_logit: whether its objective is a single output, a `Logit`.
        is_difference: whether its values are differences of outputs, of which no sign means more than the other.
        differentiable: whether its objectives know their own gradients (see
            `gradcam_service.explain.objectives.Differentiable`): compiled models explain no others.
        tasks: whose models alone have such targets; none for all models but those of a task that has its own.
        beside_classes: whether models of its tasks have the targets of no task's own as well.
    """

    is_logit: ClassVar[bool] = False
    is_difference: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    tasks: ClassVar[Sequence[str]] = ()
    beside_classes: ClassVar[bool] = False

    @property
    @abstractmethod
    def schema(self) -> Mapping[str, Any]:
        """JSON schema of what requests write, with a description."""

    @property
    @abstractmethod
    def described(self) -> type:
        """The dataclass that an answer tells of a target with."""

    @abstractmethod
    def reads(self, written: object) -> bool:
        """Whether what a request wrote is of this kind, be it right or wrong."""

    @abstractmethod
    def checked(self, written: Any, card: Card) -> Any:  # noqa: ANN401  JSON
        """A target's value, of what was written.

        Raises:
            BadOption: it is not written as it should be.
            UnknownTarget: the model has no such thing.
        """

    @abstractmethod
    def objective(self, values: Sequence[Any], outputs: Array) -> Objective:
        """What M rows are explained for, of a value each; ``outputs`` (N, classes): on whose device, of how many."""

    @abstractmethod
    def describe(self, value: Any, card: Card, scores: np.ndarray, probability: np.ndarray, asked: bool) -> Any:  # noqa: ANN401
        """An instance of `described`.

        Args:
            value: the target's.
            card: of the model that answered.
            scores: (classes,) logit units, and the model's value behind them, if it has one.
            probability: (classes,) of the scores.
            asked: whether the caller named it.
        """

    @abstractmethod
    def name(self, value: Any, card: Card) -> str:  # noqa: ANN401  as above
        """A few words for it, for captions and file names."""


TARGETS: Kinds[TargetKind] = Kinds(__name__, "TARGET")


def read(written: object, card: Card) -> Target:
    """The target that a request wrote: JSON, or JSON as text where it is no label.

    Raises:
        BadOption: it is of no kind, or not written as its kind should be.
        UnknownTarget: the model has no such thing.
    """
    if isinstance(written, str) and written.startswith("{") and written not in card.labels:
        written = _parsed(written)
    kinds = of_task(card.task)
    for name, kind in kinds.items():
        if kind.reads(written):
            return Target(name, kind.checked(written, card))
    written_so = "; ".join(str(kind.schema["description"]) for kind in kinds.values())
    raise BadOption(f"option 'target': {shortened(str(written))} is no target; there are: {written_so}")


def of_task(task: str) -> Mapping[str, TargetKind]:
    """The kinds that a task's models have: its own, or those that are no task's own, or both, its own first."""
    own = {name: kind for name, kind in TARGETS.items() if task in kind.tasks}
    if not all(kind.beside_classes for kind in own.values()):
        return own
    return own | {name: kind for name, kind in TARGETS.items() if not kind.tasks}


def objective(targets: Sequence[Target], outputs: Array) -> Objective:
    """What M rows are explained for, of a target each, all of one kind.

    Raises:
        UnsupportedMethod: the outputs are a compiled model's, and the objective is written for torch.
    """
    kind = targets[0].kind
    if isinstance(outputs, np.ndarray) and not TARGETS[kind].differentiable:
        raise UnsupportedMethod(
            f"a target of kind {kind} is explained by differentiating it, which compiled models can't; the full model "
            "can, and needs torch"
        )
    return TARGETS[kind].objective([target.value for target in targets], outputs)


def _parsed(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadOption(f"option 'target': {shortened(text)} is neither a label nor JSON: {error}") from None
