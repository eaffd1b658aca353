"""ONNX operators written as torch's own layers write them, so that heads and ReLUs are recognised for what they are.

Registered over those of ``onnx2fx`` when this module is imported.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx2fx
import torch
from onnx import helper
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import linear
from torch.utils._python_dispatch import _disable_current_modes


def _gemm(a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float, trans_a: int, trans_b: int) -> Tensor:
    """``alpha · a · b + beta · c``; a linear layer where ``b`` and ``c`` are weights."""
    a = a.mT if trans_a else a
    if isinstance(b, FakeTensor) or isinstance(c, FakeTensor):
        product = alpha * (a @ (b.mT if trans_b else b))
        return product if c is None else product + beta * c
    with _disable_current_modes():
        weight = (alpha * (b if trans_b else b.mT)).contiguous()
        bias = None if c is None else (beta * c).expand(1, len(weight))[0].contiguous()
    return linear(a, weight, bias)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """``a · b``; a linear layer where ``b`` is a matrix of weights."""
    return torch.matmul(a, b) if isinstance(b, FakeTensor) or b.dim() != 2 else _gemm(a, b, None, 1.0, 1.0, 0, 0)


def _clip(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """Bounds that are numbers are written as such."""
    return torch.clamp(x, *(bound if isinstance(bound, FakeTensor | None) else bound.item() for bound in (low, high)))  # type: ignore[arg-type]


def _gather_nd(data: Tensor, indices: Tensor) -> Tensor:
    """``data[i₀, i₁, …]`` for each row of indices."""
    return data[tuple(indices.unbind(-1))]


def _inputs(builder: Any, node: onnx.NodeProto, count: int) -> list[fx.Node | None]:  # noqa: ANN401
    names = [*node.input, "", "", ""][:count]
    return [builder.get_value(name) if name else None for name in names]


def _register_gemm(builder: Any, node: onnx.NodeProto) -> fx.Node:  # noqa: ANN401
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    numbers = (given.get("alpha", 1.0), given.get("beta", 1.0), given.get("transA", 0), given.get("transB", 0))
    called: fx.Node = builder.call_function(_gemm, (*_inputs(builder, node, 3), *numbers))
    return called


def _register_matmul(builder: Any, node: onnx.NodeProto) -> fx.Node:  # noqa: ANN401
    called: fx.Node = builder.call_function(_matmul, _inputs(builder, node, 2))
    return called


def _register_clip(builder: Any, node: onnx.NodeProto) -> fx.Node:  # noqa: ANN401
    called: fx.Node = builder.call_function(_clip, _inputs(builder, node, 3))
    return called


def _register_gather_nd(builder: Any, node: onnx.NodeProto) -> fx.Node:  # noqa: ANN401
    if any(attribute.name == "batch_dims" and attribute.i for attribute in node.attribute):
        raise onnx2fx.UnsupportedOpError("GatherND with batch_dims")
    called: fx.Node = builder.call_function(_gather_nd, _inputs(builder, node, 2))
    return called


onnx2fx.register_op("GatherND", _register_gather_nd)
onnx2fx.register_op("Gemm", _register_gemm)
onnx2fx.register_op("MatMul", _register_matmul)
onnx2fx.register_op("Clip", _register_clip, since_version=11)
