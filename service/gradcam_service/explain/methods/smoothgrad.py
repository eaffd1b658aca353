"""SmoothGrad: Smilkov et al., 2017, https://arxiv.org/abs/1706.03825."""

from __future__ import annotations

import torch
from torch import Tensor

from gradcam_service.explain.cut import logit_gradient
from gradcam_service.explain.subject import Steps, Subject


def smoothgrad(subject: Subject, samples: int = 25, noise: float = 0.15, seed: int = 0) -> Steps:
    """The gradient, averaged over noisy copies of the image: 1/n Σ ∂y_c(x + N(0, σ²))/∂x.

    Args:
        subject: what to explain.
        samples: n.
        noise: σ as a share of the range of the normalised image.
        seed: of the noise; every target is shown the same.

    Returns:
        maps: (T, C, H, W), signed, logit units per unit of normalised input.
    """
    image = subject.image
    sigma = noise * (image.max() - image.min())
    maps: list[Tensor] = []
    for target in subject.targets:
        total = torch.zeros_like(image[0])
        random = subject.random(seed)
        for first in range(0, samples, subject.chunk):
            drawn = [
                torch.randn(image.shape[1:], generator=random)
                for _ in range(first, min(samples, first + subject.chunk))
            ]
            some = image + sigma * torch.stack(drawn).to(image)
            slopes = logit_gradient(subject.network.traced, some, target.expand(len(some)))
            total += slopes.sum(dim=0)
            yield
        maps.append(total / samples)
    return torch.stack(maps)
