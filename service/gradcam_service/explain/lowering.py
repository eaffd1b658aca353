"""A network with its Grad-CAM as one graph of forward operators, for runtimes that know no gradient.

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
from gradcam_service.explain.cut import Cut
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
    head = replace(cut.head, module=_Contiguous(cut.head.module).transform())

    def explained(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        answered: Tensor  # by the same pass through the head that the gradient comes from

        def chosen(scores: Tensor) -> Tensor:
            nonlocal answered
            answered = scores
            value: Tensor = Logit(torch.where(target < 0, scores.argmax(1), target))(scores)
            return value

        gradients = head.gradients(Frontier(features), chosen)
        return answered.detach(), gradcam(layout.to_grid(features), gradients)

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    features = _any_number_of(torch.zeros(cut.layer.node.meta["val"].shape[1:]), mode)
    target = _any_number_of(torch.zeros((), dtype=torch.int64), mode)
    try:
        with mode, sdpa_kernel(SDPBackend.MATH):  # a fused attention has a fused gradient
            lowered = make_fx(explained, decomposition_table=_backward_operators())(features, target)
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise UnsupportedMethod(f"the gradient can't be written in forward operators: {reason}") from error
    if is_concrete_int(features.shape[0]):
        raise UnsupportedMethod("after this layer the model's operators can be traced for one batch size only")
    left = {operator_name(node) for node in lowered.graph.nodes if "backward" in operator_name(node)}
    if left:
        raise UnsupportedMethod(f"no forward operators are known for {', '.join(sorted(left))}")
    return Explainer(cut.backbone, lowered)


class _Contiguous(fx.Transformer):
    """Lays every value out in the order of its dimensions.

    Otherwise a value's memory order, which other runtimes have no notion of, would be traced as operators on strides:
    https://github.com/pytorch/pytorch/blob/v2.11.0/aten/src/ATen/native/AdaptiveAveragePooling.cpp
    """

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401  a value of the graph
        value = super().run_node(n)
        is_computed = n.op.startswith("call") and isinstance(n.meta.get("val"), Tensor)
        return value.contiguous() if is_computed else value


def _any_number_of(row: Tensor, mode: FakeTensorMode) -> Tensor:
    """A stand-in for a batch of tensors like ``row``, its size a symbol, the same for every call."""
    sizes = [DimDynamic.DUCK, *[DimDynamic.STATIC] * row.dim()]
    batch = torch.stack([row, row])  # a batch of one would be taken for a constant
    return mode.from_tensor(batch, symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes))


@cache
def _backward_operators() -> dict[Any, Callable[..., Any]]:
    """Backward operators → functions of forward operators: torch's, and those that it lacks."""
    known = torch.export.default_decompositions()
    return {operator: known[operator] for operator in known if "backward" in operator.name()} | ADJOINTS
