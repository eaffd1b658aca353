"""HiResCAM: Draelos & Carin, 2020, https://arxiv.org/abs/2011.08891."""

from __future__ import annotations

from torch import Tensor


def hirescam(features: Tensor, gradients: Tensor) -> Tensor:
    """Only places that raise the score: L_c = ReLU(Σ_k dy_c/dA_k ⊙ A_k); gradients are not averaged.

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units, ≥ 0.
    """
    return (gradients * features).sum(dim=1).relu()
