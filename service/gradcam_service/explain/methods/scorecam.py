"""Score-CAM: Wang et al., CVPR Workshops 2020, https://arxiv.org/abs/1910.01279."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.arrays import Array, arrays, resized, softmax
from gradcam_service.explain.method import Iterative, Need

if TYPE_CHECKING:
    from gradcam_service.explain.subject import Steps, Subject


def scorecam(subject: Subject) -> Steps:
    """Weights from the score of the image seen through each channel, not from gradients.

    Each channel, upsampled and scaled to 0–1, masks the image (eq. 3 to 5); L_c = ReLU(Σ_k α_ck A_k) with α_c the
    softmax over the channels of the masked images' scores y_c, in which the paper's black baseline cancels. A constant
    channel masks everything. All targets share the forward passes; of a difference of classes, y_c is that difference.

    Returns:
        maps: (T, h, w), units of activation, ≥ 0.
    """
    xp, grid = arrays(subject.grid), subject.grid
    scores: list[Array] = []
    for first in range(0, len(grid[0]), subject.chunk):
        masks = _masks(grid[0, first : first + subject.chunk], subject.image.shape[2:])
        scores.append(subject.scores(subject.image * masks[:, None]))
        yield
    weights = softmax(xp.concatenate(scores), 0)
    return xp.einsum("kt,khw->thw", weights, grid[0]).clip(min=0)


def _masks(channels: Array, size: tuple[int, int]) -> Array:
    """Channels (k, h, w) → masks (k, H, W) from 0 to 1."""
    xp, masks = arrays(channels), resized(channels, size)
    low, high = (bound(masks, axis=(1, 2), keepdims=True) for bound in (xp.amin, xp.amax))
    range_ = high - low
    return xp.where(range_ > 0, (masks - low) / xp.where(range_ > 0, range_, 1.0), 0.0)


METHOD = Iterative(
    title="Score-CAM",
    summary="the features through which the picture still looks like {target}",
    paper="https://arxiv.org/abs/1910.01279",
    needs={Need.FEATURES},
    steps=scorecam,
    passes=lambda case: case.channels,
)
