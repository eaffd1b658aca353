"""oneDNN, PyTorch's own kernels on a CPU: channels-last, and in bfloat16 where the processor has units for it."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from gradcam_service.explain.network import Backbone
from gradcam_service.runtime import Runtime
from gradcam_service.runtime._fold import channels_last


def _build(backbone: fx.GraphModule, images: Tensor, most: int, precision: str) -> Backbone:
    """Fold batch normalisation into the convolutions, and convert the rest."""
    dtype: torch.dtype = getattr(torch, precision)
    network = channels_last(backbone, dtype)

    def features(images: Tensor) -> Tensor:
        found: Tensor = network(images.to(dtype, memory_format=torch.channels_last))
        return found.float().contiguous()

    return features


RUNTIME = Runtime(
    _build,
    devices=("cpu",),
    precisions=("float32", "bfloat16"),
    races=("bfloat16",),  # without units for bfloat16, float32 is faster elsewhere
)
