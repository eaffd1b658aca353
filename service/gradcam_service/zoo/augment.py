"""Augmentation of whole batches: a scene stays what it is when it is turned, mirrored, dimmed, blurred or shrunk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad


def augmented(images: Tensor, regions: Tensor, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch at another size, in one of many random ways.

    The zeros that come in at the border of the pictures are the mean colour, with which the service pads pictures.

    Args:
        images: normalised float32 (N, 3, S, S).
        regions: uint8 (N, S, S), which object is where; goes with the pictures wherever they go.
        size: of the result, in pixels.
        rng: the source of randomness.

    Returns:
        The pictures (N, 3, size, size) and the regions (N, size, size).
    """
    turns = int(rng.integers(4))
    images, regions = torch.rot90(images, turns, (2, 3)), torch.rot90(regions, turns, (1, 2))
    if rng.random() < 0.5:
        images, regions = images.flip(3), regions.flip(2)
    if rng.random() < 0.5:
        images = _recoloured(images, rng)
    if rng.random() < 0.25:
        images = _resized(_resized(images, round(images.shape[-1] * rng.uniform(0.5, 0.9))), images.shape[-1])
    inner = round(size * rng.uniform(0.6, 1.0)) if rng.random() < 0.25 else size
    left, top = (int(v) for v in rng.integers(0, size - inner + 1, 2))
    border = (left, size - inner - left, top, size - inner - top)
    return pad(_resized(images, inner), border), pad(_nearest(regions, inner), border)


def _recoloured(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Channels exchanged, contrast and brightness changed, each picture on its own."""
    images = images[:, torch.from_numpy(rng.permutation(3))]
    contrast = torch.from_numpy(rng.uniform(0.6, 1.2, (len(images), 1, 1, 1)).astype(np.float32))
    brightness = torch.from_numpy(rng.uniform(-0.5, 0.5, (len(images), 1, 1, 1)).astype(np.float32))
    return (images * contrast + brightness).clamp_(-2.0, 2.0)


def _resized(images: Tensor, size: int) -> Tensor:
    """Bilinear, with antialiasing, as Pillow resizes."""
    if images.shape[-1] == size:
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def _nearest(regions: Tensor, size: int) -> Tensor:
    """Regions (N, S, S) at another size, without inventing classes between two others."""
    return interpolate(regions[:, None], (size, size), mode="nearest-exact")[:, 0]
