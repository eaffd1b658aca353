"""Backward operators of pooling, convolution and padding, written in forward operators.

Each has the arguments of the operator that it stands for. Whatever these operators do to one input (averages, weighted
sums, the choice of a maximum) is linear, and its backward operator is its adjoint: the transposed matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _max_pool2d(gradient: Tensor, values: Tensor, *options: object) -> Tensor:
    """Every gradient goes to where its maximum was: ``options`` end with the indices into h·w, shaped as ``gradient``.

    Windows overlap, so one cell may gather several.
    """
    (indices,) = options[-1:]
    assert isinstance(indices, Tensor)
    cells = torch.zeros_like(values).flatten(-2)
    return cells.scatter_add(-1, indices.flatten(-2), gradient.flatten(-2)).view(values.shape)


def _avg_pool2d(
    gradient: Tensor,
    values: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Averages over windows, of which the last may reach beyond the padding (https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html)."""

    def averages(length: int, count: int, axis: int) -> Tensor:
        size, step, pad = kernel[axis], (stride or kernel)[axis], padding[axis]
        windows = [range(i * step - pad, min(i * step - pad + size, length + pad)) for i in range(count)]
        inside = [range(max(window.start, 0), min(window.stop, length)) for window in windows]
        counted = windows if count_include_pad else inside
        return _averages(length, inside, [1 if divisor else len(window) for window in counted], gradient)

    return _pooled_by(averages, gradient, values) / (divisor or 1)


def _adaptive_avg_pool2d(gradient: Tensor, values: Tensor) -> Tensor:
    """Averages over as many windows as asked for, i from ⌊i·n/m⌋ to ⌈(i+1)·n/m⌉; they overlap unless m divides n."""

    def averages(length: int, count: int, _: int) -> Tensor:
        windows = [range(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        return _averages(length, windows, [len(window) for window in windows], gradient)

    return _pooled_by(averages, gradient, values)


def _pooled_by(averages: Callable[[int, int, int], Tensor], gradient: Tensor, values: Tensor) -> Tensor:
    """The adjoint of pooling rows and columns separately, y = R x Cᵀ: Rᵀ g C."""
    (h, w), (rows, columns) = values.shape[-2:], gradient.shape[-2:]
    return averages(h, rows, 0).T @ gradient @ averages(w, columns, 1)


def _averages(length: int, windows: Sequence[range], counts: Sequence[int], like: Tensor) -> Tensor:
    """(windows, length): row i sums the cells of window i and divides by its count."""
    rows = [[(j in window) / count for j in range(length)] for window, count in zip(windows, counts, strict=True)]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def _convolution(
    gradient: Tensor,
    values: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    needed: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """A convolution's adjoint is the transposed one and the other way round (https://arxiv.org/abs/1603.07285).

    Only the gradient of the input is given: parameters don't require one.
    """
    assert list(needed) == [True, False, False]
    beyond = [
        size - ((count - 1) * step - 2 * pad + spread * (side - 1) + 1)  # cells that no window reached
        for size, count, side, step, pad, spread in zip(
            values.shape[2:], gradient.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    extra = [0] * len(beyond) if transposed else beyond
    adjoint = aten.convolution(gradient, weight, None, stride, padding, dilation, not transposed, extra, groups)
    return adjoint, None, None


def _constant_pad(values: Tensor, pad: Sequence[int], value: float = 0.0) -> Tensor:
    """The adjoint of padding is cropping, which torch writes as padding by less than nothing.

    Both are spelled out, since torch's own kernel takes the batch size that it is traced with for a constant.
    """
    for axis, sides in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim, cut = values.dim() - 1 - axis, [max(-side, 0) for side in sides]
        values = values.narrow(dim, cut[0], values.shape[dim] - sum(cut))
        shape, added = values.shape, [max(side, 0) for side in sides]
        before, after = (values.new_full((*shape[:dim], side, *shape[dim + 1 :]), value) for side in added)
        values = torch.cat([before, values, after], dim) if any(added) else values
    return values


ADJOINTS: dict[Any, Callable[..., Any]] = {
    aten.max_pool2d_with_indices_backward.default: _max_pool2d,
    aten.adaptive_max_pool2d_backward.default: _max_pool2d,
    aten.avg_pool2d_backward.default: _avg_pool2d,
    aten._adaptive_avg_pool2d_backward.default: _adaptive_avg_pool2d,
    aten.convolution_backward.default: _convolution,
    aten.constant_pad_nd.default: _constant_pad,
}
"""Operator → the function that it is."""
