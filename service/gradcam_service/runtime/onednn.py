"""oneDNN, PyTorch's own kernels on a CPU: channels-last, and in bfloat16 where the processor has units for it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from gradcam_service.explain.network import Backbone
from gradcam_service.runtime.fold import channels_last


def on_onednn(backbone: fx.GraphModule, dtype: torch.dtype) -> Backbone:
    """The backbone with batch normalisation folded into the convolutions.

    Args:
        backbone: without autograd, on a CPU.
        dtype: to compute in; feature maps are float32 all the same.
    """
    network = channels_last(backbone, dtype)

    def features(images: Tensor) -> Tensor:
        found: Tensor = network(images.to(dtype, memory_format=torch.channels_last))
        return found.float().contiguous()

    return features
