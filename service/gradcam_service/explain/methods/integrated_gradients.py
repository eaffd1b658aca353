"""Integrated gradients: Sundararajan et al., ICML 2017, https://arxiv.org/abs/1703.01365."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcam_service.explain.method import GRADIENT, Iterative, Need, Option

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.subject import Steps, Subject


def integrated_gradients(subject: Subject, steps: int) -> Steps:
    """How the score's difference from a baseline is made up: (x − x') ∫₀¹ ∂y_c(x' + α(x − x'))/∂x dα (eq. 1).

    The baseline x' is the mean colour, 0 after normalising. The integral is Gauss-Legendre quadrature.

    Args:
        subject: what to explain.
        steps: points of the quadrature.

    Returns:
        maps: (T, C, H, W), signed, logit units; each sums to y_c(x) − y_c(x').
    """
    import torch

    points, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.tensor((points + 1) / 2, dtype=subject.image.dtype, device=subject.image.device)
    shares = torch.tensor(weights / 2, dtype=subject.image.dtype, device=subject.image.device)
    maps: list[Tensor] = []
    for objective in subject.objectives:
        total = torch.zeros_like(subject.image[0])
        for some, share in zip(torch.split(alphas, subject.chunk), torch.split(shares, subject.chunk), strict=True):
            path = subject.image * some[:, None, None, None]
            gradients = subject.gradients(path, objective)
            total += torch.einsum("s,schw->chw", share, gradients)
            yield
        maps.append(total * subject.image[0])
    return torch.stack(maps)


METHOD = Iterative(
    title="Integrated gradients",
    summary="what each pixel adds to the score of {target}, from the mean colour to the picture",
    paper="https://arxiv.org/abs/1703.01365",
    kind="signed_colour",
    needs={Need.INPUT_GRADIENT},
    options={"steps": Option(default=50, ge=2, le=1000, description="points of the quadrature")},
    steps=integrated_gradients,
    passes=lambda case, steps: GRADIENT * case.targets * steps,
)
