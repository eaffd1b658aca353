"""Guided backpropagation: Springenberg et al., 2015, https://arxiv.org/abs/1412.6806; and Guided Grad-CAM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gradcam_service.explain.cut import Logit, logit_gradient
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.subject import Steps, Subject


def guided_backprop(subject: Subject) -> Steps:
    """The gradient of the score with respect to the image, through ReLUs that stop what is negative.

    By rewriting the graph, so every ReLU is guided: functional, in-place and shared ones as well.

    Returns:
        maps: (T, C, H, W), signed, logit units per unit of normalised input.
    """
    guided = subject.network.guided
    images = subject.image.expand(len(subject.targets), -1, -1, -1)
    maps: list[Tensor] = []
    for some, targets in zip(
        torch.split(images, subject.chunk), torch.split(subject.targets, subject.chunk), strict=True
    ):
        maps.append(logit_gradient(guided, some, targets))
        yield
    return torch.cat(maps)


def guided_gradcam(subject: Subject) -> Steps:
    """Fine and class-discriminative: Grad-CAM upsampled ⊙ guided backpropagation (Selvaraju et al., section 3.2).

    Returns:
        maps: (T, C, H, W), signed, logit units squared per unit of normalised input.
    """
    repeated = subject.frontier.rows([0] * len(subject.targets))
    gradients = subject.cut.head.gradients(repeated, Logit(subject.targets))
    coarse = gradcam(subject.cut.layer.layout.to_grid(repeated.features), gradients)
    fine = yield from guided_backprop(subject)
    return interpolate(coarse[:, None], size=fine.shape[2:], mode="bilinear", align_corners=False) * fine
