"""Score-CAM: Wang et al., CVPR Workshops 2020, https://arxiv.org/abs/1910.01279."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import Iterative, Need

if TYPE_CHECKING:
    from torch import Size, Tensor

    from gradcam_service.explain.subject import Steps, Subject


def scorecam(subject: Subject) -> Steps:
    """Weights from the score of the image seen through each channel, not from gradients.

    Each channel, upsampled and scaled to 0–1, masks the image (eq. 3 to 5); L_c = ReLU(Σ_k α_ck A_k) with α_c the
    softmax over the channels of the masked images' scores y_c, in which the paper's black baseline cancels. A constant
    channel masks everything. All targets share the forward passes; of a difference of classes, y_c is that difference.

    Returns:
        maps: (T, h, w), units of activation, ≥ 0.
    """
    import torch

    grid = subject.grid
    scores: list[Tensor] = []
    for channels in torch.split(grid[0], subject.chunk):
        masks = _masks(channels, subject.image.shape[2:])
        scores.append(subject.scores(subject.image * masks[:, None]))
        yield
    weights = torch.cat(scores).softmax(dim=0)
    return torch.einsum("kt,khw->thw", weights, grid[0]).clip(min=0)


def _masks(channels: Tensor, size: Size) -> Tensor:
    """Channels (k, h, w) → masks (k, H, W) from 0 to 1."""
    import torch
    from torch.nn.functional import interpolate

    masks = interpolate(channels[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
    return torch.where(high > low, (masks - low) / (high - low), 0.0)


METHOD = Iterative(
    title="Score-CAM",
    summary="the features through which the picture still looks like {target}",
    paper="https://arxiv.org/abs/1910.01279",
    needs={Need.FEATURES},
    steps=scorecam,
    passes=lambda case: case.channels,
)
