"""CAM: Zhou et al., CVPR 2016, https://arxiv.org/abs/1512.04150."""

from __future__ import annotations

import torch
from torch import Tensor


def cam(features: Tensor, weights: Tensor) -> Tensor:
    """Where the evidence for a class lies: M_c = ReLU(Σ_k w_ck A_k), w_c the class's row of the last linear layer.

    The paper shows M_c itself; the ReLU is Grad-CAM's, so that Grad-CAM = CAM / Z on the same network.

    Args:
        features: (M, K, h, w), what is averaged and fed to the linear layer.
        weights: (M, K), each row's w_c.

    Returns:
        maps: (M, h, w), logit units times Z, ≥ 0.
    """
    return torch.einsum("mk,mkhw->mhw", weights, features).relu()
