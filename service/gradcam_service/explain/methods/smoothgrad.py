"""SmoothGrad: Smilkov et al., 2017, https://arxiv.org/abs/1706.03825."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import GRADIENT, Iterative, Need, Option

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.subject import Steps, Subject


def smoothgrad(subject: Subject, samples: int, noise: float, seed: int) -> Steps:
    """The gradient, averaged over noisy copies of the image: 1/n Σ ∂y_c(x + N(0, σ²))/∂x.

    Args:
        subject: what to explain.
        samples: n.
        noise: σ as a share of the range of the normalised image.
        seed: of the noise; every target is shown the same.

    Returns:
        maps: (T, C, H, W), signed, logit units per unit of normalised input.
    """
    import torch

    image = subject.image
    sigma = noise * (image.max() - image.min())
    maps: list[Tensor] = []
    for objective in subject.objectives:
        total = torch.zeros_like(image[0])
        random = torch.Generator().manual_seed(seed)  # on the CPU, whatever the device
        for first in range(0, samples, subject.chunk):
            drawn = [
                torch.randn(image.shape[1:], generator=random)
                for _ in range(first, min(samples, first + subject.chunk))
            ]
            some = image + sigma * torch.stack(drawn).to(image)
            gradients = subject.gradients(some, objective)
            total += gradients.sum(dim=0)
            yield
        maps.append(total / samples)
    return torch.stack(maps)


METHOD = Iterative(
    title="SmoothGrad",
    summary="how {target} reacts to each pixel, averaged over noisy copies",
    paper="https://arxiv.org/abs/1706.03825",
    kind="signed_colour",
    needs={Need.INPUT_GRADIENT},
    options={
        "samples": Option(default=25, ge=1, le=1000, description="noisy copies"),
        "noise": Option(default=0.15, ge=0, le=1, description="noise as a share of the range"),
        "seed": Option(default=0, ge=0, le=2**63 - 1, description="of what is random"),
    },
    steps=smoothgrad,
    passes=lambda case, samples, **_: GRADIENT * case.targets * samples,
)
