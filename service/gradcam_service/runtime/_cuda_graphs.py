"""CUDA graphs: a batch is one launch, channels-last, with batch normalisation folded into the convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from gradcam_service.explain.network import Backbone
from gradcam_service.runtime import Workload
from gradcam_service.runtime._fold import channels_last


@dataclass(frozen=True)
class _Capture:
    """The launches for batches of one size.

    Attributes:
        images: (size, C, H, W), where the next batch belongs.
        features: where its feature maps will be.
    """

    graph: torch.cuda.CUDAGraph
    images: Tensor
    features: Tensor


def build(work: Workload, precision: str) -> Backbone:
    """Capture it for batches of 1, 2, 4 …; a batch between them is filled up.

    See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. The captures share memory, as never two of
    them run at once.

    Raises:
        RuntimeError: there isn't the memory, an operator can't be captured, since it waits for the device, or the
            device has no units for the precision.
    """
    if not has_units(precision):
        raise RuntimeError("the GPU has no units for bfloat16")
    dtype = getattr(torch, precision)
    network = channels_last(work.backbone, dtype)
    example, pool = work.images[:1].to(dtype), torch.cuda.graph_pool_handle()
    powers = range(_power(work.most), -1, -1)  # the largest first, whose memory the others then use
    captures = [_capture(network, example.expand(2**power, -1, -1, -1), pool) for power in powers]

    def features(images: Tensor) -> Tensor:
        capture = captures[-1 - _power(len(images))]
        capture.images[: len(images)].copy_(images)
        capture.graph.replay()
        return capture.features[: len(images)].clone()

    return features


def _power(count: int) -> int:
    """The exponent of the smallest power of two that is at least ``count``."""
    return (count - 1).bit_length()


def _capture(network: fx.GraphModule, example: Tensor, pool: Any) -> _Capture:  # noqa: ANN401  torch has no public name
    images = example.to(memory_format=torch.channels_last, copy=True)
    aside: torch.cuda.Stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(aside):
        for _ in range(3):  # libraries choose their algorithms and allocate on the first calls
            network(images)
    torch.cuda.current_stream(images.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # What other threads ask of the device meanwhile is no part of the capture and none of its concern.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        features = network(images).float().contiguous()
    return _Capture(graph, images, features)


def has_units(precision: str) -> bool:
    """Whether the GPU has units for a precision."""
    return precision == "float32" or torch.cuda.is_bf16_supported(including_emulation=False)
