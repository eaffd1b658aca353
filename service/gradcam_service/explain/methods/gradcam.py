"""Grad-CAM: Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched, arrays


def gradcam(features: Array, gradients: Array) -> Array:
    """Where the network looks for a target: L_c = ReLU(Σ_k α_ck A_k), with α_ck = 1/Z Σ_ij dy_c/dA_kij (eq. 1 and 2).

    Args:
        features: (M, K, h, w), the feature maps A, one row for each target.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units, ≥ 0.
    """
    return arrays(features).einsum("mk,mkhw->mhw", gradients.mean(axis=(2, 3)), features).clip(min=0)


METHOD = Batched(
    title="Grad-CAM",
    summary="where the evidence for {target} lies",
    paper="https://arxiv.org/abs/1610.02391",
    maps=gradcam,
)
