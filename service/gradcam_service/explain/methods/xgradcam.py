"""XGrad-CAM: Fu et al., BMVC 2020, https://arxiv.org/abs/2008.02312."""

from __future__ import annotations

import torch
from torch import Tensor


def xgradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM that best keeps sensitivity and conservation: w_k = Σ_ij A_kij g_kij / Σ_ij A_kij (eq. 8).

    Args:
        features: (M, K, h, w), the feature maps A.
        gradients: (M, K, h, w), g = dy_c/dA.

    Returns:
        maps: (M, h, w) = ReLU(Σ_k w_k A_k), logit units, ≥ 0. A channel whose A sums to 0 has no weight.
    """
    total = features.sum(dim=(2, 3))
    weights = torch.where(total != 0, (gradients * features).sum(dim=(2, 3)) / total, 0.0)
    return torch.einsum("mk,mkhw->mhw", weights, features).relu()
