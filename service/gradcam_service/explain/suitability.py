"""Which methods can explain a network, and what that costs: what methods need and say, held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gradcam_service.explain.cut import Cut
from gradcam_service.explain.guide import unguided
from gradcam_service.explain.layers import INPUT, non_differentiable
from gradcam_service.explain.method import GRADIENT, Case, Iterative, Method, Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network

NO_GRADIENT = "the model rounds its values, as quantised models do, so that its scores have no gradient"
NO_FEATURES = "the model has no feature maps with a spatial extent"
NEEDS_GAP = "CAM needs a head that is global average pooling followed by one linear layer; gradcam works on any head"


def refusals(network: Network, measured: Mapping[Need, str] = MappingProxyType({})) -> dict[str, str]:
    """Methods that can't explain this network at its default layer, and why.

    Args:
        network: whose graph is looked at.
        measured: what it was found to lack besides, and why.
    """
    lacking = {need: reason for need, look in _LOOKS.items() if (reason := look(network) or measured.get(need, ""))}
    refused = {name: _refusal(METHODS[name], lacking) for name in METHODS}
    return {name: reason for name, reason in refused.items() if reason}


def refusal_at(method: Method, cut: Cut) -> str:
    """Why a method that can explain a network at its default layer can't at this one; empty where it can."""
    return NEEDS_GAP if Need.LINEAR_HEAD in method.needs and cut.head.weight is None else ""


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


def _refusal(method: Method, lacking: Mapping[Need, str]) -> str:
    """The most telling reason, which is the last."""
    needs = method.needs if method.of_input else {*method.needs, Need.FEATURES}
    return next((reason for need, reason in reversed([*lacking.items()]) if need in needs), "")


def _other_rectifiers(network: Network) -> str:
    activations = ", ".join(sorted(unguided(network.traced)))
    return activations and f"guided backpropagation is defined for ReLU; this network has {activations}"


_LOOKS: dict[Need, Callable[[Network], str]] = {
    Need.LINEAR_HEAD: lambda network: NEEDS_GAP if network.cut.head.weight is None else "",
    Need.RELUS: _other_rectifiers,
    Need.INPUT_GRADIENT: lambda network: (
        (network.opaque or NO_GRADIENT) if non_differentiable(network.traced.graph) else ""
    ),
    Need.LAYER_GRADIENT: lambda network: (
        (network.opaque or NO_GRADIENT) if non_differentiable(network.cut.head.module.graph) else ""
    ),
    Need.FEATURES: lambda network: (network.opaque or NO_FEATURES) if network.cut.layer.name == INPUT else "",
}
"""What a network lacks of each need, and why; empty where it lacks nothing."""
