"""Costs of explanations, and whether one can be had at a layer. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from gradcam_service.explain.method import GRADIENT, Case, Iterative, Method, Need
from gradcam_service.explain.methods import DEFAULT
from gradcam_service.explain.parts import Cut, Network


def refusal_at(method: Method, cut: Cut) -> str:
    """Why a method that can explain a network at its default layer can't at this one; empty where it can."""
    if Need.LINEAR_HEAD not in method.needs or cut.head.weight is not None:
        return ""
    head = "a head that is global average pooling followed by one linear layer"
    return f"{method.title} needs {head}; {DEFAULT} works on any head"


def forward_passes(
    method: Method, network: Network, layer: str, input_size: tuple[int, int], targets: int, given: Mapping[str, float]
) -> int:
    """What an explanation costs in forward passes of the whole network, the prediction included.

    A forward and backward pass counts as three, and one of the head alone as one; but behind another layer than the
    default one there is nearly the whole network, so that gradients there cost as much as those of the image.
    """
    cut = network.cut_at(layer)
    passes = 1.0
    if isinstance(method, Iterative):
        case = Case(input_size, cut.layer.channels, cut.head.weight is not None, targets)
        passes += method.passes(case, **method.complete(given))
    if network.is_early(cut) and not method.of_input:
        passes += GRADIENT * targets if Need.LAYER_GRADIENT in method.needs else 1
    return int(passes)
