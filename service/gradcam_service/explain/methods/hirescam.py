"""HiResCAM: Draelos & Carin, 2020, https://arxiv.org/abs/2011.08891."""

from __future__ import annotations

from gradcam_service.explain.method import Array, Batched


def hirescam(features: Array, gradients: Array) -> Array:
    """Only places that raise the score: L_c = ReLU(Σ_k dy_c/dA_k ⊙ A_k); gradients are not averaged.

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units, ≥ 0.
    """
    return (gradients * features).sum(axis=1).clip(min=0)


METHOD = Batched(
    title="HiResCAM",
    summary="the cells that raised the score of {target}, each by its own gradient",
    paper="https://arxiv.org/abs/2011.08891",
    maps=hirescam,
)
