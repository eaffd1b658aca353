"""XGrad-CAM: Fu et al., BMVC 2020, https://arxiv.org/abs/2008.02312."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched, arrays


def xgradcam(features: Array, gradients: Array) -> Array:
    """Grad-CAM that best keeps sensitivity and conservation: w_k = Σ_ij A_kij g_kij / Σ_ij A_kij (eq. 8).

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), g = dy_c/dA.

    Returns:
        maps: (M, h, w) = ReLU(Σ_k w_k A_k), logit units, ≥ 0. A channel whose A sums to 0 has no weight.
    """
    xp, total = arrays(features), features.sum(axis=(2, 3))
    moments = (gradients * features).sum(axis=(2, 3))
    weights = xp.where(total != 0, moments / xp.where(total != 0, total, 1.0), 0.0)
    return xp.einsum("mk,mkhw->mhw", weights, features).clip(min=0)


METHOD = Batched(
    title="XGrad-CAM",
    summary="evidence for {target}, its weights scaled by how active the features are",
    paper="https://arxiv.org/abs/2008.02312",
    maps=xgradcam,
)
