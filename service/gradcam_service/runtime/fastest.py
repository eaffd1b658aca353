"""The fastest runtime that computes what eager PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from time import perf_counter

import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import TRACING
from gradcam_service.explain.network import Backbone, Network
from gradcam_service.runtime.cuda_graphs import on_cuda_graphs
from gradcam_service.runtime.inductor import on_inductor
from gradcam_service.runtime.onednn import on_onednn
from gradcam_service.runtime.onnx_runtime import first_cause, on_onnx_runtime

_USUAL = {
    ("cpu", "float32"): ("onnxruntime",),
    ("cpu", "bfloat16"): ("onednn", "onnxruntime"),  # without units for bfloat16, float32 is faster
    ("cuda", "float32"): ("cuda_graphs",),
    ("cuda", "bfloat16"): ("cuda_graphs",),
}
"""Of each kind of device and precision, those that may be the fastest and need no compiler."""
_IN_PRECISION = ("cuda_graphs", "onednn")
"""Those that compute in the precision asked for; the others compute in float32."""
_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
"""Of the largest value."""
_ROUNDS = 10


def fastest(
    network: Network, runtime: str, images: Tensor, most: int, precision: str = "float32"
) -> tuple[str, Backbone] | str:
    """A backbone for ``network`` that is faster than its own and computes the same, and the name of its runtime.

    Args:
        network: on its device.
        runtime: a name, or ``auto`` for the fastest of the usual ones of the device.
        images: two examples (2, C, H, W) of what it will be given.
        most: most of them at once.
        precision: ``float32``, or ``bfloat16`` where a runtime can compute in it.

    Returns:
        Why there is none, where there isn't.
    """
    eager, device = network.cut.backbone, images.device.type
    if runtime == "eager" or not any(node.op == "call_function" for node in eager.graph.nodes):
        return "it stays as it is"
    if network.cut.axes:
        return "besides the feature maps of its default layer, other values are needed, which no runtime gives yet"
    wanted = _USUAL[device, precision] if runtime == "auto" else (runtime,)
    with torch.no_grad():
        found = {name: _alike(name, eager, images, most, precision) for name in wanted}
        if runtime == "auto":
            found = _faster(found, eager, images)
    usable = ((name, backbone) for name, backbone in found.items() if not isinstance(backbone, str))
    return next(usable, "; ".join(map(str, found.values())))


def _alike(name: str, eager: fx.GraphModule, images: Tensor, most: int, precision: str) -> Backbone | str:
    """The backbone on the runtime of that name; why not, where it can't run there or computes something else."""
    device, dtype = images.device.type, getattr(torch, precision)
    builders: dict[tuple[str, str], Callable[[fx.GraphModule, Tensor], Backbone]] = {
        ("cpu", "compile"): on_inductor,
        ("cpu", "onednn"): lambda backbone, _: on_onednn(backbone, dtype),
        ("cpu", "onnxruntime"): on_onnx_runtime,
        ("cuda", "compile"): on_inductor,
        ("cuda", "cuda_graphs"): partial(on_cuda_graphs, most=most, dtype=dtype),
    }
    if (device, name) not in builders:
        return f"{name} is not for a {device} device"
    try:
        with TRACING:
            backbone = builders[device, name](eager, images)
        difference = _difference(backbone(images), eager(images))
    except Exception as error:  # of several libraries, without a common base
        return f"{name} can't run it: {first_cause(error)}"
    if not difference <= _TOLERANCE[precision if name in _IN_PRECISION else "float32"]:
        return f"{name} computes features that differ by {difference:.1e} of the largest"
    return backbone


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    difference: float = ((found - expected).abs().max() / expected.abs().max()).item()
    return difference


def _faster(found: dict[str, Backbone | str], eager: Backbone, images: Tensor) -> dict[str, Backbone | str]:
    """The fastest first; for those that are not faster than ``eager``, that they are not."""
    usable = {name: backbone for name, backbone in found.items() if not isinstance(backbone, str)}
    seconds = _seconds({"eager": eager} | usable, images) if usable else {}
    slow = {
        name: f"{name} is not faster, it takes {seconds[name] / seconds['eager']:.2f} of the time"
        for name in usable
        if seconds[name] >= seconds["eager"]
    }
    return {name: (found | slow)[name] for name in sorted(found, key=lambda name: seconds.get(name, inf))}


def _seconds(backbones: dict[str, Backbone], images: Tensor) -> dict[str, float]:
    """How long each takes: the best of some rounds, in turns."""
    rounds = [{name: _timed(backbone, images) for name, backbone in backbones.items()} for _ in range(_ROUNDS)]
    return {name: min(seconds[name] for seconds in rounds) for name in backbones}


def _timed(backbone: Backbone, images: Tensor) -> float:
    start = perf_counter()
    for some in (images[:1], images):  # what is fast for one may be slow for several
        backbone(some).cpu()  # waits for the device
    return perf_counter() - start
