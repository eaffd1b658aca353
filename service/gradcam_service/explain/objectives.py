"""Objectives that maps explain: functions of a network's outputs, of which methods know nothing else.

Those here are functions of arrays, of whichever library: an engine without automatic differentiation takes their
`Differentiable.gradient`. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from gradcam_service.explain.arrays import Array, arrays, gather, scatter_add, softmax

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
        return arrays(outputs).where(_is_at(self.targets, outputs), 1.0, arrays(outputs).zeros_like(outputs))


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


@dataclass(frozen=True, eq=False)
class Finer:
    """What tells each row's class from those most like it: Σ_d p_d (y_c − γ y_d) / Σ_d p_d.

    Over the R classes d whose scores are closest to y_c, p being the softmax of the scores: a contrast with weights
    γ p_d / Σ p_d that depend on the scores themselves.

    Attributes:
        logit: y_c.
        gamma: γ.
        references: R.
    """

    logit: Logit
    gamma: float
    references: int
    linear: ClassVar[bool] = False

    def __call__(self, outputs: Array) -> Array:
        """Outputs (M, classes) → (M,)."""
        nearest = self._nearest(outputs)
        others = gather(outputs, nearest)
        return self.logit(outputs) - self.gamma * (softmax(others, 1) * others).sum(axis=1)

    def gradient(self, outputs: Array) -> Array:
        """1 at c, −γ s_d (1 + y_d − Σ_k s_k y_k) at each d, where s_d = p_d / Σ p_d."""
        nearest = self._nearest(outputs)
        others = gather(outputs, nearest)
        shares = softmax(others, 1)
        weights = self.gamma * shares * (1 + others - (shares * others).sum(axis=1, keepdims=True))
        return Contrast(self.logit.targets, nearest, weights).gradient(outputs)

    def _nearest(self, outputs: Array) -> Array:
        """(M, R) int64, the classes whose scores are closest to each row's own."""
        xp, scores = arrays(outputs), outputs[:, : self.logit.classes]
        distance = abs(scores - self.logit(outputs)[:, None])
        apart = xp.where(_is_at(self.logit.targets, scores), xp.inf, distance)
        return xp.argsort(apart, axis=1)[:, : min(self.references, scores.shape[1] - 1)]


def each(objectives: Sequence[Objective]) -> Objective:
    """The objective whose i-th row is explained for the i-th of these."""

    def objective(outputs: Array) -> Array:
        return arrays(outputs).concatenate([one(outputs[row : row + 1]) for row, one in enumerate(objectives)])

    return objectives[0] if len(objectives) == 1 else objective


def _is_at(index: Array, outputs: Array) -> Array:
    """Of each row (M, classes), or of one for all, whether a column is the one with that index (M,)."""
    columns = arrays(outputs).arange(outputs.shape[1], device=outputs.device)
    return columns[None] == index[:, None]
