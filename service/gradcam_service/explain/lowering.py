"""A network with its gradient, or with its Grad-CAM, as graphs of forward operators, for runtimes that know none.

The very functions that explain in the service are traced through the head, gradient included, as in
https://docs.pytorch.org/docs/stable/generated/torch.fx.experimental.proxy_tensor.make_fx.html; each backward operator
that this finds is then written as the forward operators that it is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext, is_concrete_int
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.adjoints import ADJOINTS
from gradcam_service.explain.cut import Cut, Head
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.graph import operator_name
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.objectives import Logit


class Explainer(nn.Module):
    """Scores and Grad-CAM in one forward pass, without automatic differentiation; made by `lower`."""

    def __init__(self, backbone: fx.GraphModule, head: fx.GraphModule) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Explain a batch.

        Args:
            image: (N, C, H, W) float32, as the network receives it.
            target: (N,) int64, class indices; a negative one means the class with the highest score.

        Returns:
            scores: (N, classes) float32, logit units.
            heatmap: (N, h, w) float32, the map L_c of `gradcam`, logit units, ≥ 0.
        """
        scores, heatmap = self.head(self.backbone(image), target)
        return scores, heatmap


def lower(cut: Cut) -> Explainer:
    """The network of ``cut`` with the Grad-CAM maps of its layer, for every batch size.

    It shares the network's parameters.

    Raises:
        UnsupportedMethod: other values than the layer's cross the cut, or the head has an operator whose gradient can't
            be written in forward operators; it is named.
    """
    if cut.axes:
        raise UnsupportedMethod(
            f"not every path of the network crosses {cut.layer.name}; a layer that every path crosses would work"
        )
    layout = cut.layer.layout
    head = _laid_out(cut)

    def explained(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        answered: Tensor  # by the same pass through the head that the gradient comes from

        def chosen(scores: Tensor) -> Tensor:
            nonlocal answered
            answered = scores
            value: Tensor = Logit(torch.where(target < 0, scores.argmax(1), target))(scores)
            return value

        gradients = head.gradients(Frontier(features), chosen)
        return answered.detach(), gradcam(layout.to_grid(features), gradients)

    features = torch.zeros(2, *cut.layer.node.meta["val"].shape[1:])
    return Explainer(cut.backbone, _lowered(explained, [features, torch.zeros(2, dtype=torch.int64)], [0, 0]))


def lower_gradient(cut: Cut, frontier: Frontier, others: tuple[Tensor, ...], outputs: int) -> fx.GraphModule:
    """The gradient of a weighted sum of the scores with respect to the feature maps, for every number of rows.

    Args:
        cut: of the network.
        frontier: of two images, an example.
        others: the network's other inputs, likewise.
        outputs: how many scores there are.

    Returns:
        Maps what crosses the cut, the other inputs and the weights, objective (M, outputs), to (M, K, h, w). It shares
        the network's parameters.

    Raises:
        UnsupportedMethod: the head has an operator whose gradient can't be written in forward operators; it is named.
    """
    head, crossing = _laid_out(cut), 1 + len(frontier.rest)

    def explained(*values: Tensor) -> Tensor:
        features, *rest = values[:crossing]
        *beside, objective = values[crossing:]
        at = Frontier(features, tuple(rest), frontier.axes)
        return head.gradients(at, lambda scores: (scores * objective).sum(1), *beside)

    examples = [frontier.features, *frontier.rest, *others, torch.zeros(2, outputs)]
    if not all(isinstance(example, Tensor) for example in examples):
        raise UnsupportedMethod(f"numbers cross the cut at {cut.layer.name} that differ from picture to picture")
    examples = [example.contiguous() for example in examples]  # a view's strides would be traced, too
    rows = [0, *(axis or 0 for axis in frontier.axes), *(0 for _ in others), 0]
    return _lowered(explained, examples, rows)


def _laid_out(cut: Cut) -> Head:
    return replace(cut.head, module=_Contiguous(cut.head.module).transform())


def _lowered(function: Callable[..., Any], examples: list[Tensor], rows: list[int]) -> fx.GraphModule:
    """A function of tensors, traced with its gradients as forward operators, for any number of rows.

    Args:
        function: to be traced.
        examples: of what it takes, two rows each.
        rows: the dimension of each that counts them.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes = [_any_number_of(example, axis, mode) for example, axis in zip(examples, rows, strict=True)]
    try:
        with mode, sdpa_kernel(SDPBackend.MATH):  # a fused attention has a fused gradient
            lowered = make_fx(function, decomposition_table=_backward_operators())(*fakes)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise UnsupportedMethod(f"the gradient can't be written in forward operators: {reason}") from error
    if is_concrete_int(fakes[0].shape[rows[0]]):
        raise UnsupportedMethod("after this layer the model's operators can be traced for one batch size only")
    left = {operator_name(node) for node in lowered.graph.nodes if "backward" in operator_name(node)}
    if left:
        raise UnsupportedMethod(f"no forward operators are known for {', '.join(sorted(left))}")
    return lowered


class _Contiguous(fx.Transformer):
    """Lays every value out in the order of its dimensions.

    Otherwise a value's memory order, which other runtimes have no notion of, would be traced as operators on strides:
    https://github.com/pytorch/pytorch/blob/v2.11.0/aten/src/ATen/native/AdaptiveAveragePooling.cpp
    """

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401  a value of the graph
        value = super().run_node(n)
        is_computed = n.op.startswith("call") and isinstance(n.meta.get("val"), Tensor)
        return value.contiguous() if is_computed else value


def _any_number_of(example: Tensor, rows: int, mode: FakeTensorMode) -> Tensor:
    """A stand-in for a batch of tensors like ``example``, its number of rows a symbol, the same for every call."""
    sizes = [DimDynamic.DUCK if axis == rows else DimDynamic.STATIC for axis in range(example.dim())]
    return mode.from_tensor(example, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))


@cache
def _backward_operators() -> dict[Any, Callable[..., Any]]:
    """Backward operators → functions of forward operators: torch's, and those that it lacks."""
    known = torch.export.default_decompositions()
    return {operator: known[operator] for operator in known if "backward" in operator.name()} | ADJOINTS
