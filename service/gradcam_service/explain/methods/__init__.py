"""Explanation methods by the names that requests use: what each takes, what it costs, and where it works."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.cut import Cut, Logit
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.guide import unguided
from gradcam_service.explain.layers import INPUT, non_differentiable
from gradcam_service.explain.methods.ablationcam import ablationcam
from gradcam_service.explain.methods.cam import cam
from gradcam_service.explain.methods.eigencam import eigencam
from gradcam_service.explain.methods.finercam import difference
from gradcam_service.explain.methods.gradcam import gradcam, gradcam_counterfactual
from gradcam_service.explain.methods.gradcam_plus_plus import gradcam_plus_plus
from gradcam_service.explain.methods.guided import guided_backprop, guided_gradcam
from gradcam_service.explain.methods.hirescam import hirescam
from gradcam_service.explain.methods.integrated_gradients import integrated_gradients
from gradcam_service.explain.methods.layercam import layercam
from gradcam_service.explain.methods.occlusion import occlusion
from gradcam_service.explain.methods.occlusion import passes as occlusion_passes
from gradcam_service.explain.methods.rise import rise
from gradcam_service.explain.methods.scorecam import scorecam
from gradcam_service.explain.methods.smoothgrad import smoothgrad
from gradcam_service.explain.methods.xgradcam import xgradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.subject import Steps

Options = Mapping[str, float]
Batched = Callable[..., Tensor]
"""(cut, its frontier of M rows, targets (M,), **options) → maps (M, h, w): costs next to nothing, done for a batch."""
Iterative = Callable[..., Steps]
"""(subject, **options) → steps: for one image, others may be served in between."""

_GRADIENT = 3
"""A forward and a backward pass, in forward passes."""


def _of_gradients(method: Callable[[Tensor, Tensor], Tensor]) -> Batched:
    def explain(cut: Cut, frontier: Frontier, targets: Tensor) -> Tensor:
        gradients = cut.head.gradients(frontier, Logit(targets))
        return method(cut.layer.layout.to_grid(frontier.features), gradients)

    return explain


def _cam(cut: Cut, frontier: Frontier, targets: Tensor) -> Tensor:
    if cut.head.weight is None:
        raise UnsupportedMethod(NEEDS_GAP)
    return cam(cut.layer.layout.to_grid(frontier.features), cut.head.weight[targets])


def _eigencam(cut: Cut, frontier: Frontier, targets: Tensor) -> Tensor:
    return eigencam(cut.layer.layout.to_grid(frontier.features))


def _finercam(cut: Cut, frontier: Frontier, targets: Tensor, gamma: float = 1.0, references: int = 3) -> Tensor:
    gradients = cut.head.gradients(frontier, difference(targets, gamma, int(references)))
    return gradcam(cut.layer.layout.to_grid(frontier.features), gradients)


BATCHED: dict[str, Batched] = {
    "gradcam": _of_gradients(gradcam),
    "gradcam_counterfactual": _of_gradients(gradcam_counterfactual),
    "gradcam_plus_plus": _of_gradients(gradcam_plus_plus),
    "hirescam": _of_gradients(hirescam),
    "xgradcam": _of_gradients(xgradcam),
    "layercam": _of_gradients(layercam),
    "finercam": _finercam,
    "eigencam": _eigencam,
    "cam": _cam,
}
ITERATIVE: dict[str, Iterative] = {
    "ablationcam": ablationcam,
    "scorecam": scorecam,
    "guided_backprop": guided_backprop,
    "guided_gradcam": guided_gradcam,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "occlusion": occlusion,
    "rise": rise,
}
METHODS = (*BATCHED, *ITERATIVE)
OF_THE_INPUT = ("guided_backprop", "integrated_gradients", "smoothgrad", "occlusion", "rise")
"""Methods that no layer has a part in."""

OF_FEATURES = ("ablationcam", "scorecam", "guided_gradcam")
"""Those of `ITERATIVE` that need feature maps; all of `BATCHED` do."""
OF_GRADIENTS = tuple(method for method in BATCHED if method not in ("eigencam", "cam"))
"""Methods that need the gradient of a score with respect to the feature maps."""
OF_INPUT_GRADIENTS = ("guided_backprop", "guided_gradcam", "integrated_gradients", "smoothgrad")
"""Methods that need the gradient of a score with respect to the image."""

NO_GRADIENT = "the model rounds its values, as quantised models do, so that its scores have no gradient"
NO_FEATURES = "the model has no feature maps with a spatial extent"
NEEDS_GAP = "CAM needs a head that is global average pooling followed by one linear layer; gradcam works on any head"


def options_of(method: str) -> dict[str, float]:
    """The method's own options with their defaults."""
    parameters = inspect.signature((BATCHED | ITERATIVE)[method]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def refusals(network: Network) -> dict[str, str]:
    """Methods that can't explain this network, and why."""
    refused: dict[str, str] = {}
    if network.cut.head.weight is None:
        refused["cam"] = NEEDS_GAP
    if activations := unguided(network.traced):
        reason = f"guided backpropagation is defined for ReLU; this network has {', '.join(sorted(activations))}"
        refused |= dict.fromkeys(("guided_backprop", "guided_gradcam"), reason)
    if non_differentiable(network.traced.graph):
        refused |= dict.fromkeys(OF_INPUT_GRADIENTS, network.opaque or NO_GRADIENT)
    if non_differentiable(network.cut.head.module.graph):
        refused |= dict.fromkeys(OF_GRADIENTS, network.opaque or NO_GRADIENT)
    if network.cut.layer.name == INPUT:
        refused |= dict.fromkeys((*BATCHED, *OF_FEATURES), network.opaque or NO_FEATURES)
    return refused


def forward_passes(method: str, cut: Cut, input_size: tuple[int, int], targets: int, given: Options) -> int:
    """What a method costs in forward passes of the whole network, the prediction included.

    A forward and backward pass counts as three, and one of the head alone as one.
    """
    options = options_of(method) | dict(given)
    extra: dict[str, Callable[[], float]] = {
        "ablationcam": lambda: 0 if cut.head.weight is not None else cut.layer.channels,
        "scorecam": lambda: cut.layer.channels,
        "guided_backprop": lambda: _GRADIENT * targets,
        "guided_gradcam": lambda: _GRADIENT * targets,
        "integrated_gradients": lambda: _GRADIENT * targets * options["steps"],
        "smoothgrad": lambda: _GRADIENT * targets * options["samples"],
        "occlusion": lambda: occlusion_passes(*input_size, int(options["window"]), int(options["stride"])),
        "rise": lambda: options["masks"],
    }
    return 1 + int(extra.get(method, partial(int, 0))())
