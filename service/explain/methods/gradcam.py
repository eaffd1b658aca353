"""Grad-CAM: Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391."""

from __future__ import annotations

import torch
from torch import Tensor

from service.explain.cut import Head


@torch.no_grad()
def gradcam(features: Tensor, head: Head, targets: Tensor) -> Tensor:
    """Where the network looks for a class: L_c = ReLU(Σ_k α_ck A_k), with α_ck = 1/Z Σ_ij dy_c/dA_kij (eq. 1 and 2).

    Args:
        features: (M, K, h, w), the feature maps A, one row for each target.
        head: what the gradients are taken through.
        targets: (M,) int64, class indices c.

    Returns:
        maps: (M, h, w) float32, logit units, ≥ 0.
    """
    weights = head.gradients(features, targets).mean(dim=(2, 3))
    return torch.einsum("mk,mkhw->mhw", weights, features).relu().float()
