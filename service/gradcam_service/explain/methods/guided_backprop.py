"""Guided backpropagation: Springenberg et al., 2015, https://arxiv.org/abs/1412.6806."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import GRADIENT, Iterative, Need

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.subject import Steps, Subject


def guided_backprop(subject: Subject) -> Steps:
    """The gradient of the score with respect to the image, through ReLUs that stop what is negative.

    By rewriting the graph, so every ReLU is guided: functional, in-place and shared ones as well.

    Returns:
        maps: (T, C, H, W), signed, logit units per unit of normalised input.
    """
    import torch

    from gradcam_service.explain.objectives import each

    maps: list[Tensor] = []
    for first in range(0, len(subject.objectives), subject.chunk):
        some = subject.objectives[first : first + subject.chunk]
        images = subject.image.expand(len(some), -1, -1, -1)
        maps.append(subject.gradients(images, each(some), guided=True))
        yield
    return torch.cat(maps)


METHOD = Iterative(
    title="Guided backprop",
    summary="fine detail that the network reacts to; hardly depends on the class",
    paper="https://arxiv.org/abs/1412.6806",
    kind="signed_colour",
    needs={Need.RELUS, Need.INPUT_GRADIENT},
    steps=guided_backprop,
    passes=lambda case: GRADIENT * case.targets,
)
