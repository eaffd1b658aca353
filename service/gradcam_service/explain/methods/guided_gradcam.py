"""Guided Grad-CAM: Selvaraju et al., ICCV 2017, section 3.2, https://arxiv.org/abs/1610.02391."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import GRADIENT, Iterative, Need
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.methods.guided_backprop import guided_backprop

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.subject import Steps, Subject


def guided_gradcam(subject: Subject) -> Steps:
    """Fine and class-discriminative: Grad-CAM upsampled ⊙ guided backpropagation.

    Returns:
        maps: (T, C, H, W), signed, logit units squared per unit of normalised input.
    """
    import torch
    from torch.nn.functional import interpolate

    from gradcam_service.explain.objectives import each

    maps: list[Tensor] = []
    for first in range(0, len(subject.objectives), subject.chunk):
        some = subject.objectives[first : first + subject.chunk]
        repeated = subject.frontier.rows([0] * len(some))
        gradients = subject.cut.head.gradients(repeated, each(some), *subject.beside(len(some)))
        maps.append(gradcam(subject.cut.layer.layout.to_grid(repeated.features), gradients))
        if subject.early:
            yield
    coarse = torch.cat(maps)
    fine = yield from guided_backprop(subject)
    return interpolate(coarse[:, None], size=fine.shape[2:], mode="bilinear", align_corners=False) * fine


METHOD = Iterative(
    title="Guided Grad-CAM",
    summary="fine detail where Grad-CAM finds evidence for {target}",
    paper="https://arxiv.org/abs/1610.02391",
    kind="signed_colour",
    needs={Need.RELUS, Need.INPUT_GRADIENT, Need.LAYER_GRADIENT},
    steps=guided_gradcam,
    passes=lambda case: GRADIENT * case.targets,
)
