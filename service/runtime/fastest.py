"""The fastest runtime that computes what eager PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from torch import Tensor, fx

from service.explain.network import Backbone, Network
from service.runtime.cuda_graphs import on_cuda_graphs
from service.runtime.inductor import on_inductor
from service.runtime.onnx_runtime import first_cause, on_onnx_runtime

_USUAL = {"cpu": "onnxruntime", "cuda": "cuda_graphs"}
"""Of each kind of device, the fastest of which it is known that it needs no compiler."""
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
"""Of the largest value."""
_ROUNDS = 10


def fastest(
    network: Network, runtime: str, images: Tensor, most: int, precision: str = "float32"
) -> tuple[str, Backbone] | str:
    """A backbone for ``network`` that is faster than its own and computes the same, and the name of its runtime.

    Args:
        network: on its device.
        runtime: a name, or ``auto`` for the usual one of the device where it is faster.
        images: two examples (2, C, H, W) of what it will be given.
        most: most of them at once.
        precision: of what CUDA graphs compute, ``float32`` or ``bfloat16``.

    Returns:
        Why there is none, where there isn't.
    """
    eager, device = network.cut.backbone, images.device.type
    builders: dict[tuple[str, str], Callable[[fx.GraphModule, Tensor], Backbone]] = {
        ("cpu", "compile"): on_inductor,
        ("cpu", "onnxruntime"): on_onnx_runtime,
        ("cuda", "compile"): on_inductor,
        ("cuda", "cuda_graphs"): partial(on_cuda_graphs, most=most, dtype=getattr(torch, precision)),
    }
    wanted = _USUAL[device] if runtime == "auto" else runtime
    if wanted == "eager" or not any(node.op == "call_function" for node in eager.graph.nodes):
        return "it stays as it is"
    if (device, wanted) not in builders:
        return f"{wanted} is not for a {device} device"
    with torch.no_grad():
        try:
            backbone = builders[device, wanted](eager, images)
            difference = _difference(backbone(images), eager(images))
        except Exception as error:  # of several libraries, without a common base
            return f"{wanted} can't run it: {first_cause(error)}"
        if not difference <= _TOLERANCE[precision if wanted == "cuda_graphs" else "float32"]:
            return f"{wanted} computes features that differ by {difference:.1e} of the largest"
        if runtime == "auto" and (times := _times_faster(backbone, eager, images[:1])) < 1:
            return f"{wanted} is not faster, it takes {1 / times:.2f} of the time"
    return wanted, backbone


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    difference: float = ((found - expected).abs().max() / expected.abs().max()).item()
    return difference


def _times_faster(backbone: Backbone, eager: Backbone, images: Tensor) -> float:
    """How often ``backbone`` answers while ``eager`` does once: both best of some rounds, in turns."""
    seconds = [(_seconds(backbone, images), _seconds(eager, images)) for _ in range(_ROUNDS)]
    return min(slow for _, slow in seconds) / min(fast for fast, _ in seconds)


def _seconds(backbone: Backbone, images: Tensor) -> float:
    start = perf_counter()
    backbone(images).cpu()  # waits for the device
    return perf_counter() - start
