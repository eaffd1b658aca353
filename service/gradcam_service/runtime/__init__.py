"""Runtimes, which compute feature maps: the part of every answer that takes the time and needs no gradient.

One file for each, which declares a `Runtime` as ``RUNTIME``. Torch-free, so that the names are known wherever
``model.yaml`` is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING

from gradcam_service.errors import first_line
from gradcam_service.kinds import Kinds

if TYPE_CHECKING:
    from torch import Tensor, fx

    from gradcam_service.explain.network import Backbone, Network

_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}
"""Of the largest value."""
_ROUNDS = 10


@dataclass(frozen=True)
class Runtime:
    """A runtime: what computes feature maps in the place of eager PyTorch.

    Attributes:
        build: makes a `Backbone` of an eager one without autograd, two examples (2, C, H, W) of its input, the most
            images at once, and the precision to compute in; feature maps are float32 all the same. What it raises, of
            whatever class, means that it can't.
        devices: the kinds of device that it runs on, of ``cpu`` and ``cuda``.
        precisions: those that it computes in; asked for another it computes in float32.
        races: precisions asked for, of which it may be the fastest way, so that ``auto`` tries it.
    """

    build: Callable[[fx.GraphModule, Tensor, int, str], Backbone]
    devices: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)
    races: tuple[str, ...] = ()

    def computes_in(self, precision: str) -> str:
        """The precision that it computes in where that one is asked for."""
        return precision if precision in self.precisions else "float32"


RUNTIMES: Kinds[Runtime] = Kinds("gradcam_service.runtime", "RUNTIME")


def fastest(
    network: Network, runtime: str, images: Tensor, most: int, precision: str = "float32"
) -> tuple[str, Backbone] | str:
    """Find a backbone for ``network`` that is faster than its own and computes the same, and the name of its runtime.

    Args:
        network: on its device. Autograd is off.
        runtime: a name, or ``auto`` for the fastest of those that race on the device.
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
    racing = [name for name, known in RUNTIMES.items() if device in known.devices and precision in known.races]
    wanted = racing if runtime == "auto" else [runtime]
    found = {name: _alike(name, eager, images, most, precision) for name in wanted}
    if runtime == "auto":
        found = _faster(found, eager, images)
    usable = ((name, backbone) for name, backbone in found.items() if not isinstance(backbone, str))
    return next(usable, "; ".join(map(str, found.values())))


def first_cause(error: BaseException) -> str:
    """Say what an exporter stumbled over: the operator, where it says so, else the first thing that went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    operator = re.search(r"op='([\w.]+)'", str(error))
    return f"ONNX has no {operator[1]}" if operator else first_line(error)


def _alike(name: str, eager: fx.GraphModule, images: Tensor, most: int, precision: str) -> Backbone | str:
    """The backbone on the runtime of that name; why not, where it can't run there or computes something else."""
    runtime, device = RUNTIMES[name], images.device.type
    if device not in runtime.devices:
        return f"{name} is not for a {device} device"
    try:
        backbone = runtime.build(eager, images, most, runtime.computes_in(precision))
        difference = _difference(backbone(images), eager(images))
    except Exception as error:  # of several libraries, without a common base
        return f"{name} can't run it: {first_cause(error)}"
    if not difference <= _TOLERANCE[runtime.computes_in(precision)]:
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
