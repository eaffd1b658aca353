"""Suitability of methods for a network: what they need, held against its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gradcam_service.explain.costs import refusal_at
from gradcam_service.explain.guide import unguided
from gradcam_service.explain.layers import non_differentiable
from gradcam_service.explain.layout import INPUT
from gradcam_service.explain.method import Method, Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network

NO_GRADIENT = "the model rounds its values, as quantised models do, so that its scores have no gradient"
NO_FEATURES = "the model has no feature maps with a spatial extent"


def refusals(network: Network, measured: Mapping[Need, str] = MappingProxyType({})) -> dict[str, str]:
    """Methods that can't explain this network at its default layer, and why.

    Args:
        network: whose graph is looked at.
        measured: what it was found to lack besides, and why.
    """
    lacking = {need: reason for need, look in _LOOKS.items() if (reason := look(network) or measured.get(need, ""))}
    refused = {name: _refusal(METHODS[name], lacking) or refusal_at(METHODS[name], network.cut) for name in METHODS}
    return {name: reason for name, reason in refused.items() if reason}


def _refusal(method: Method, lacking: Mapping[Need, str]) -> str:
    """The most telling reason, which is the last."""
    needs = method.needs if method.of_input else {*method.needs, Need.FEATURES}
    return next((reason for need, reason in reversed([*lacking.items()]) if need in needs), "")


def _other_rectifiers(network: Network) -> str:
    activations = ", ".join(sorted(unguided(network.traced)))
    return activations and f"guided backpropagation is defined for ReLU; this network has {activations}"


_LOOKS: dict[Need, Callable[[Network], str]] = {
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
