"""Runtimes, which compute feature maps: the part of every answer that takes the time and needs no gradient.

One file for each, which declares a `Runtime` as ``RUNTIME``. Torch-free, so that the names are known wherever
``model.yaml`` is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from gradcam_service.errors import first_line
from gradcam_service.kinds import Kinds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, fx

    from gradcam_service.explain.network import Backbone, Network

Precision = Literal["auto", "float32", "bfloat16"]
"""That feature maps are to be computed in; ``auto``: whatever is faster."""

TOLERANCE = 1e-4
"""Of the largest value, in float32: how far what is computed otherwise may be from what torch computes.

In fewer bits, single values differ by up to 0.2 of it and say nothing of answers.
"""
_ROUNDS, _ROUNDS_FOR_ALL = 5, 2
_HOPELESS = 1.5
"""How many times as long as the fastest one takes after these rounds what is not tried in the others."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Workload of a runtime: the backbone that it is to compute, and what that will be given.

    Attributes:
        backbone: eager, without autograd.
        images: two examples (2, C, H, W) of its input, on the device.
        most: how many images there are at once at most.
        folder: where a runtime may keep what it compiles of this backbone, which may be deleted at any time; None for
            nowhere.
    """

    backbone: fx.GraphModule
    images: Tensor
    most: int
    folder: Path | None = None

    @property
    def device(self) -> str:
        """The kind of device, ``cpu`` or ``cuda``."""
        return self.images.device.type


Graph = Callable[..., list["np.ndarray"]]
"""An opened ONNX model: its inputs in order → its outputs."""


@dataclass(frozen=True)
class Runtime:
    """A runtime: what computes feature maps in the place of eager PyTorch.

    Attributes:
        build: makes a `Backbone` for a workload that computes in the precision given; feature maps are float32 all the
            same. What it raises, of whatever class, means that it can't on this machine.
        devices: the kinds of device that it runs on, of ``cpu`` and ``cuda``.
        precisions: those that it computes in where the device has units for them.
        races: those in which it may be the fastest, so that ``auto`` tries it.
        has_units: whether this machine's device has units for one of them.
        copies: how often it holds the weights of what it computes, as they were and as it has packed them.
        open: opens an ONNX model, or the file of one, to compute in a precision on a CPU; a folder is where what it
            compiles of it may be kept. None of one that takes no ONNX models. It raises as ``build`` does, and needs no
            torch.
        libraries: the packages by whose versions it may be the fastest in what ``open`` opens; after an upgrade of one
            the race is run again.
    """

    build: Callable[[Workload, str], Backbone]
    devices: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)
    races: tuple[str, ...] = ()
    has_units: Callable[[str], bool] = lambda _: True
    copies: int = 1
    open: Callable[[bytes | Path, str, Path | None], Graph] | None = None
    libraries: tuple[str, ...] = ()


RUNTIMES: Kinds[Runtime] = Kinds("gradcam_service.runtime", "RUNTIME")


Made = TypeVar("Made")
"""What a runtime makes, to compute in the place of what computes at present."""


@dataclass(frozen=True)
class Contender(Generic[Made]):
    """Contender for a place: of which runtime, the precision that it computes in, and what computes."""

    runtime: str
    precision: str
    made: Made

    def __str__(self) -> str:
        return way(self.runtime, self.precision)


@dataclass(frozen=True)
class Outcome(Generic[Made]):
    """Outcome of a race.

    Attributes:
        winner: None where all stays as it is.
        reasons: why each of the others was not taken.
    """

    winner: Contender[Made] | None
    reasons: tuple[str, ...]


def fastest(
    network: Network,
    work: Workload,
    runtime: str,
    precision: Precision = "float32",
    unacceptable: Callable[[Backbone], str] = lambda _: "",
) -> Outcome[Backbone]:
    """Find what computes a network's backbone faster than eager PyTorch, and as well.

    Args:
        network: on its device. Autograd is off.
        work: what computes its feature maps of images alone.
        runtime: a name, or ``auto`` for those that race on the device.
        precision: ``float32``; ``bfloat16``, and float32 where no runtime can or may; or ``auto`` for the faster.
        unacceptable: what is wrong with answers by a backbone that computes in less than float32; empty for nothing.
    """
    if runtime == "eager" or not any(node.op == "call_function" for node in work.backbone.graph.nodes):
        return Outcome(None, ("it stays as it is",))
    if refused := refusal(network):
        return Outcome(None, (refused,))
    return in_precision(precision, lambda asked: _race(work, runtime, asked, unacceptable))


def refusal(network: Network) -> str:
    """Why no runtime computes a network's feature maps but eager PyTorch, whatever it can; empty where one may."""
    if network.others and not network.shares_images:
        inputs = " and ".join(network.others)
        return f"the model looks at the picture by what its {inputs} are, which no runtime gives it yet"
    if network.cut.axes:
        return "besides the feature maps of its default layer, other values are needed, which no runtime gives yet"
    return ""


def in_precision(precision: Precision, race: Callable[[tuple[str, ...]], Outcome[Made]]) -> Outcome[Made]:
    """The outcome of a race of contenders in such a precision; in float32 where none in bfloat16 can or may compute."""
    found = race(("float32", "bfloat16") if precision == "auto" else (precision,))
    if found.winner is None and precision == "bfloat16":
        exact = race(("float32",))
        return Outcome(exact.winner, (*found.reasons, *exact.reasons))
    return found


def raced(
    present: tuple[str, Made],
    tried: Iterable[Contender[Made] | str],
    timed: Callable[[Made], float],
    unacceptable: Callable[[Contender[Made]], str],
    may_stay: bool,
) -> Outcome[Made]:
    """Take the fastest of the contenders that can be accepted.

    Args:
        present: what computes now, after its name.
        tried: the contenders; of what can't be one, why.
        timed: seconds that one takes, once.
        unacceptable: what is wrong with the answers of one; empty for nothing.
        may_stay: whether one has to be faster than what computes now.
    """
    name, now = present
    tried = list(tried)
    reasons = [each for each in tried if isinstance(each, str)]
    usable = [each for each in tried if not isinstance(each, str)]
    if not usable:
        return Outcome(None, tuple(reasons))
    winner: Contender[Made] | None = None
    if may_stay or len(usable) > 1:
        seconds = _seconds({name: now} | {str(each): each.made for each in usable}, timed)
        usable.sort(key=lambda each: seconds[str(each)])
    for each in usable:
        best = name if winner is None else str(winner)
        if winner is not None or (may_stay and seconds[str(each)] >= seconds[name]):
            reasons.append(f"{each} takes {seconds[str(each)] / seconds[best]:.2f} of the time of {best}")
        elif reason := unacceptable(each):
            reasons.append(f"{each} is not accepted: {reason}")
        else:
            winner = each
    return Outcome(winner, tuple(reasons))


def can_compute_in(precision: str, device: str) -> bool:
    """Whether a runtime computes in a precision on this machine's device of a kind, ``cpu`` or ``cuda``."""
    return any(
        device in runtime.devices and precision in runtime.precisions and _has_units(runtime, precision)
        for runtime in RUNTIMES.values()
    )


def has_torch() -> bool:
    """Whether torch is installed; it isn't imported to find out."""
    try:
        return find_spec("torch") is not None
    except ModuleNotFoundError:  # of tests that hide it
        return False


def first_cause(error: BaseException) -> str:
    """Say what an exporter stumbled over: the operator, where it says so, else the first thing that went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    operator = re.search(r"op='([\w.]+)'", str(error))
    return f"ONNX has no {operator[1]}" if operator else first_line(error)


def _has_units(runtime: Runtime, precision: str) -> bool:
    try:
        return runtime.has_units(precision)
    except Exception:  # of several libraries, without a common base; it can't be built either
        return False


def way(runtime: str, precision: str) -> str:
    """What it is called that something computes so."""
    return runtime if precision == "float32" else f"{runtime} in {precision}"


def _race(
    work: Workload, runtime: str, precisions: tuple[str, ...], unacceptable: Callable[[Backbone], str]
) -> Outcome[Backbone]:
    """Build what may run, and take the fastest of those that compute the same, or what can be accepted."""
    racing = runtime == "auto"
    names = [name for name, known in RUNTIMES.items() if work.device in known.devices] if racing else [runtime]
    ways = [(name, in_) for in_ in precisions for name in names if not racing or in_ in RUNTIMES[name].races]
    return raced(
        ("eager", work.backbone),
        [_built(name, in_, work) for name, in_ in ways],
        lambda backbone: _timed(backbone, work.images),
        lambda each: "" if each.precision == "float32" else unacceptable(each.made),
        may_stay=racing,
    )


def _built(name: str, precision: str, work: Workload) -> Contender[Backbone] | str:
    """The backbone on the runtime of that name; why not, where it can't run there or computes something else."""
    runtime, called = RUNTIMES[name], way(name, precision)
    if work.device not in runtime.devices:
        return f"{name} is not for a {work.device} device"
    if precision not in runtime.precisions:
        return f"{name} does not compute in {precision}"
    try:
        backbone = runtime.build(work, precision)
        difference = _difference(backbone(work.images), work.backbone(work.images))
    except Exception as error:  # of several libraries, without a common base
        return f"{called} can't run it: {first_cause(error)}"
    if precision == "float32" and not difference <= TOLERANCE:
        return f"{called} computes features that differ by {difference:.1e} of the largest"
    return Contender(name, precision, backbone)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a part of the largest value."""
    difference: float = ((found - expected).abs().max() / expected.abs().max()).item()
    return difference


def _seconds(sides: dict[str, Made], timed: Callable[[Made], float]) -> dict[str, float]:
    """How long each takes: the best of some rounds, in turns."""
    best = dict.fromkeys(sides, inf)
    for number in range(_ROUNDS):
        most = _HOPELESS * min(best.values()) if number >= _ROUNDS_FOR_ALL else inf
        for name in [name for name in sides if best[name] <= most]:
            best[name] = min(best[name], timed(sides[name]))
    return best


def _timed(backbone: Backbone, images: Tensor) -> float:
    start = perf_counter()
    for some in (images[:1], images):  # what is fast for one may be slow for several
        backbone(some).cpu()  # waits for the device
    return perf_counter() - start
