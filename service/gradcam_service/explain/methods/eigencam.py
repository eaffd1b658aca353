"""Eigen-CAM: Muhammad & Yeasin, IJCNN 2020, https://arxiv.org/abs/2008.00299."""

from __future__ import annotations

import torch
from torch import Tensor


def eigencam(features: Tensor) -> Tensor:
    """What stands out whatever the class: the feature maps projected on their first principal component.

    The (h·w, K) matrix of feature vectors, centred, is decomposed as U S Vᵀ; the map is its product with the first
    column of V. A singular vector's sign is arbitrary: the one is taken under which the map rises with the mean
    activation. Where that is the same everywhere, as after a LayerNorm with the weights it starts with, it is the one
    under which few places stand out high rather than low (a positive third moment).

    Args:
        features: (M, K, h, w), the feature maps.

    Returns:
        maps: (M, h, w) after a ReLU, units of activation.
    """
    vectors = features.flatten(2).transpose(1, 2).float()
    finite = vectors.isfinite().flatten(1).all(dim=1)[:, None]  # others have no components, and must not stop these
    centred = torch.where(finite[:, :, None], vectors - vectors.mean(dim=1, keepdim=True), 0.0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    projected = torch.einsum("mpk,mk->mp", centred, components[:, 0])
    means, scale = centred.mean(dim=2), centred.abs().amax(dim=(1, 2))
    level = means.abs().amax(dim=1) < 1e-5 * scale  # what is left of the means is float32 rounding
    rising = torch.where(level[:, None], projected.square(), means)
    agreement = (projected * rising).sum(dim=1, keepdim=True)
    signed = torch.where(agreement < 0, -projected, projected)
    return torch.where(finite, signed.relu(), torch.nan).reshape(len(features), *features.shape[2:])
