"""What every card tells of the training that came before it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Cost:
    """What a training took and what came of it.

    Attributes:
        minutes: wall time.
        cpu_minutes: the time that all cores together spent on it.
        hardware: what it ran on.
        parameters: how many the network has.
        weights: size of the weights file in bytes.
    """

    minutes: float
    cpu_minutes: float
    hardware: str
    parameters: int
    weights: int

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.weights / 1e6:.1f} MB of float32 weights; trained in "
            f"{self.minutes:.0f} minutes on {self.hardware}, {self.cpu_minutes:.0f} minutes of CPU time in all."
        )


def cost(network: nn.Module, weights: int, started: float) -> Cost:
    """The cost of a training that began when `time.monotonic` was ``started``; this process did nothing else.

    Args:
        network: what was trained.
        weights: size of its file in bytes.
        started: in seconds.
    """
    return Cost(
        minutes=(time.monotonic() - started) / 60,
        cpu_minutes=sum(os.times()[:4]) / 60,  # of this process and of those that it started
        hardware=f"{torch.get_num_threads()} cores ({platform.machine()}, PyTorch {torch.__version__})",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        weights=weights,
    )
