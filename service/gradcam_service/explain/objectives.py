"""Objectives that maps explain: functions of a network's outputs, of which methods know nothing else.

Those here are functions of arrays, of whichever library: an engine without automatic differentiation takes their
`Differentiable.gradient`. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from gradcam_service.explain.arrays import Array, arrays, gather, scatter_add

Objective = Callable[[Array], Array]
"""What rows are explained for: outputs (M, classes) → values (M,), each from its own row alone.

One made for a single target takes any number of rows, all of which are then explained for it.
"""


@runtime_checkable
class Differentiable(Protocol):
    """An objective that knows its own gradient."""

    linear: ClassVar[bool]
    """Whether that is the same whatever the outputs are, so that nobody need know them."""

    def __call__(self, outputs: Array, /) -> Array:
        """Outputs (M, classes) → values (M,)."""

    def gradient(self, outputs: Array) -> Array:
        """The gradient of each row's value with respect to its outputs, of their shape."""


@dataclass(frozen=True, eq=False)
class Logit:
    """The score y_c of each row's class.

    Attributes:
        targets: (M,) int64, c.
        classes: how many of the outputs are scores of classes, the first; None for all.
    """

    targets: Array
    classes: int | None = None
    linear: ClassVar[bool] = True

    def __call__(self, outputs: Array) -> Array:
        """Outputs (M, classes) → (M,)."""
        return gather(outputs, self.targets[:, None])[:, 0]

    def gradient(self, outputs: Array) -> Array:
        """1 at c, 0 elsewhere."""
        xp = arrays(outputs)
        columns = xp.arange(outputs.shape[1], device=outputs.device)
        return xp.where(columns[None] == self.targets[:, None], 1.0, xp.zeros_like(outputs))


@dataclass(frozen=True, eq=False)
class Contrast:
    """A class against others, y_P − Σ_q w_q y_q, of each row.

    Attributes:
        own: (M,) int64, P.
        others: (M, R) int64, the classes q.
        weights: (M, R), w.
    """

    own: Array
    others: Array
    weights: Array
    linear: ClassVar[bool] = True

    def __call__(self, outputs: Array) -> Array:
        """Outputs (M, classes) → (M,)."""
        others = gather(outputs, self.others)
        weights = arrays(outputs).asarray(self.weights, dtype=outputs.dtype)
        return Logit(self.own)(outputs) - (weights * others).sum(axis=1)

    def gradient(self, outputs: Array) -> Array:
        """1 at P, −w_q at each q, 0 elsewhere."""
        weights = arrays(outputs).asarray(self.weights, dtype=outputs.dtype)
        return scatter_add(Logit(self.own).gradient(outputs), self.others, -weights)


def each(objectives: Sequence[Objective]) -> Objective:
    """The objective whose i-th row is explained for the i-th of these."""

    def objective(outputs: Array) -> Array:
        return arrays(outputs).concatenate([one(outputs[row : row + 1]) for row, one in enumerate(objectives)])

    return objectives[0] if len(objectives) == 1 else objective
