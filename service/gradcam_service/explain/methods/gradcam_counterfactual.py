"""Counterfactual Grad-CAM: Selvaraju et al., ICCV 2017, section 3.3, https://arxiv.org/abs/1610.02391."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched
from gradcam_service.explain.methods.gradcam import gradcam


def gradcam_counterfactual(features: Array, gradients: Array) -> Array:
    """What would lower the target's score: Grad-CAM with α_ck = 1/Z Σ_ij −dy_c/dA_kij."""
    return gradcam(features, -gradients)


METHOD = Batched(
    title="Counterfactual",
    summary="what lowers the score of {target}; without it, the model would be surer",
    paper="https://arxiv.org/abs/1610.02391",
    maps=gradcam_counterfactual,
)
