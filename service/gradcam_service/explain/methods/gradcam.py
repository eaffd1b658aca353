"""Grad-CAM and its counterfactual: Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391."""

from __future__ import annotations

import torch
from torch import Tensor


def gradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """Where the network looks for a class: L_c = ReLU(Σ_k α_ck A_k), with α_ck = 1/Z Σ_ij dy_c/dA_kij (eq. 1 and 2).

    Args:
        features: (M, K, h, w), the feature maps A, one row for each target.
        gradients: (M, K, h, w), dy_c/dA.

    Returns:
        maps: (M, h, w), logit units, ≥ 0.
    """
    return torch.einsum("mk,mkhw->mhw", gradients.mean(dim=(2, 3)), features).relu()


def gradcam_counterfactual(features: Tensor, gradients: Tensor) -> Tensor:
    """What would lower the class's score: Grad-CAM with α_ck = 1/Z Σ_ij −dy_c/dA_kij (section 3.3)."""
    return gradcam(features, -gradients)
