"""TorchInductor: operators fused and compiled for this very machine, which needs a compiler on it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from gradcam_service.explain.network import Backbone


def on_inductor(backbone: fx.GraphModule, images: Tensor) -> Backbone:
    """The backbone compiled for one image and for any number of them, with its parameters as constants.

    Args:
        backbone: without autograd.
        images: two examples (2, C, H, W) of what it takes.

    Raises:
        Exception: there is no compiler, or it fails.
    """
    compiled: Backbone = torch.compile(backbone, dynamic=True, options={"freezing": True})
    for example in (images, images[:1]):
        compiled(example)
    return compiled
