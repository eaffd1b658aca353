"""Finer-CAM: Zhang et al., CVPR 2025, https://arxiv.org/abs/2501.11309."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import Batched, Option
from gradcam_service.explain.methods.gradcam import gradcam

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.objectives import Logit, Objective


def difference(logit: Logit, gamma: float, references: int) -> Objective:
    """What tells a class from the classes most like it; Finer-CAM is the Grad-CAM of this.

    The objective is Σ_d p_d (y_c − γ y_d) / Σ_d p_d over the ``references`` classes d whose scores are closest to
    y_c, p being the softmax of the scores: a contrast with weights γ p_d / Σ p_d that depend on the scores themselves.

    Args:
        logit: y_c of M rows.
        gamma: how much of a reference is taken away; 0 gives Grad-CAM, up to the weights' own gradient.
        references: how many classes to compare with.
    """
    import torch

    from gradcam_service.explain.objectives import Contrast

    def objective(scores: Tensor) -> Tensor:
        scores = scores[:, : logit.classes]
        distance = (scores - logit(scores)[:, None]).abs().scatter(1, logit.targets[:, None], torch.inf)
        nearest = distance.topk(min(references, scores.shape[1] - 1), dim=1, largest=False).indices
        weights = gamma * scores.gather(1, nearest).softmax(1)  # softmax over the nearest is p_d / Σ p_d
        return Contrast(logit.targets, nearest, weights)(scores)

    return objective


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
    objective=difference,
)
