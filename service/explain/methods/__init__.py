"""Explanation methods: pure functions from feature maps to maps, by the names that requests use."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from service.explain.cut import Head
from service.explain.methods.gradcam import gradcam

Method = Callable[[Tensor, Head, Tensor], Tensor]
"""(features (M, K, h, w), head, targets (M,)) → maps (M, h, w) float32."""

METHODS: dict[str, Method] = {"gradcam": gradcam}
