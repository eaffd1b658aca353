"""Finer-CAM: Zhang et al., CVPR 2025, https://arxiv.org/abs/2501.11309; it is the Grad-CAM of `Finer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradcam_service.explain.arrays import gather, softmax
from gradcam_service.explain.method import Array, Batched, Option, arrays
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.objectives import Contrast, Logit


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
        apart = xp.where(self.logit.gradient(scores) > 0, xp.inf, distance)  # not its own, whose gradient is 1
        return xp.argsort(apart, axis=1)[:, : min(self.references, scores.shape[1] - 1)]


METHOD = Batched(
    title="Finer-CAM",
    summary="what tells {target} from the classes most like it",
    paper="https://arxiv.org/abs/2501.11309",
    options={
        "gamma": Option(default=1.0, ge=0, le=10, description="how much of similar classes is taken away"),
        "references": Option(default=3, ge=1, le=100, description="how many similar classes"),
    },
    classes_only="it compares a class with those most like it by itself",
    maps=gradcam,
    objective=Finer,
)
