"""Grad-CAM++: Chattopadhay et al., WACV 2018, https://arxiv.org/abs/1710.11063."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched, arrays


def gradcam_plus_plus(features: Array, gradients: Array) -> Array:
    """Grad-CAM with pixel-wise weights, so that each of several instances counts.

    L_c = ReLU(Σ_k w_k A_k), w_k = Σ_ij α_kij ReLU(g_kij) and, by eq. 19, α_kij = g² / (2 g² + Σ_ab A_kab · g³), where g
    is dy_c/dA. The paper explains exp(y_c), whose derivative would scale the whole map by exp(y_c) and change nothing
    else: left out, since it overflows.

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), g.

    Returns:
        maps: (M, h, w), logit units times Z, ≥ 0.
    """
    xp = arrays(features)
    # Divided by g², which may underflow.
    denominator = 2 + features.sum(axis=(2, 3), keepdims=True) * gradients
    used = (gradients != 0) & (denominator != 0)
    alpha = xp.where(used, 1 / xp.where(used, denominator, 1.0), 0.0)
    weights = (alpha * gradients.clip(min=0)).sum(axis=(2, 3))
    return xp.einsum("mk,mkhw->mhw", weights, features).clip(min=0)


METHOD = Batched(
    title="Grad-CAM++",
    summary="evidence for {target}, weighted so that several instances show",
    paper="https://arxiv.org/abs/1710.11063",
    maps=gradcam_plus_plus,
)
