"""EfficientNet-Lite by its paper and Google's reference, from the tensors of efficientnet-pytorch by their own names.

https://arxiv.org/abs/1905.11946; of the Lite ones:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

STRIDES = {"lite0": (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)}
"""Of each block's depthwise convolution."""


def logits(state: Mapping[str, Tensor], images: Tensor, strides: tuple[int, ...]) -> Tensor:
    """(N, 3, H, W) in the precision of the tensors → (N, classes)."""

    def convolved(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, groups = weight.shape[2], x.shape[1] // weight.shape[1]
        missing = [max((ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]  # TensorFlow's SAME
        top, left = missing[0] // 2, missing[1] // 2
        padded = functional.pad(x, (left, missing[1] - left, top, missing[0] - top))
        return functional.conv2d(padded, weight, stride=stride, groups=groups)

    def normed(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    x = normed(convolved(images, "_conv_stem", 2), "_bn0").clamp(0, 6)
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in state:
            x = normed(convolved(x, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        x = normed(convolved(x, f"{block}._depthwise_conv", stride), f"{block}._bn1").clamp(0, 6)
        x = normed(convolved(x, f"{block}._project_conv"), f"{block}._bn2")
        x = x + before if x.shape == before.shape else x
    pooled = normed(convolved(x, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    return pooled @ state["_fc.weight"].T + state["_fc.bias"]
