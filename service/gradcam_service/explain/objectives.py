"""Objectives that maps explain: functions of a network's outputs, of which methods know nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
"""What rows are explained for: outputs (M, classes) → values (M,), each from its own row alone.

One made for a single target takes any number of rows, all of which are then explained for it.
"""


@dataclass(frozen=True, eq=False)
class Logit:
    """The score y_c of each row's class.

    Attributes:
        targets: (M,) int64, c.
        classes: how many of the outputs are scores of classes, the first; None for all.
    """

    targets: Tensor
    classes: int | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """Outputs (M, classes) → (M,)."""
        # Not len: where the objective is traced, that would fix the number of rows.
        return outputs.gather(1, self.targets[:, None].expand(outputs.shape[0], 1))[:, 0]


@dataclass(frozen=True, eq=False)
class Contrast:
    """A class against others, y_P − Σ_q w_q y_q, of each row.

    Attributes:
        own: (M,) int64, P.
        others: (M, R) int64, the classes q.
        weights: (M, R), w.
    """

    own: Tensor
    others: Tensor
    weights: Tensor

    def __call__(self, outputs: Tensor) -> Tensor:
        """Outputs (M, classes) → (M,)."""
        others = outputs.gather(1, self.others.expand(outputs.shape[0], -1))
        return Logit(self.own)(outputs) - (self.weights.to(outputs.dtype) * others).sum(1)


def each(objectives: Sequence[Objective]) -> Objective:
    """The objective whose i-th row is explained for the i-th of these."""

    def objective(outputs: Tensor) -> Tensor:
        return torch.cat([one(outputs[row : row + 1]) for row, one in enumerate(objectives)])

    return objectives[0] if len(objectives) == 1 else objective
