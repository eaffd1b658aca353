"""Training of networks on examples that lie in memory, and what every card tells of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

Loss: TypeAlias = Callable[[float, NDArray[np.int64]], tuple[Tensor, str]]
"""The part of the training that is over, and some examples' indices → their loss, and what the progress bar shows."""


@dataclass(frozen=True)
class Schedule:
    """How AdamW goes down, its rate in one cycle.

    Attributes:
        batch: examples in a step; those that fill none are left out of an epoch.
        rate: the highest.
        decay: of the weights.
        warming: the part of the steps in which the rate rises.
        unit: what an example is called.
    """

    batch: int
    rate: float
    decay: float
    warming: float
    unit: str

    def descend(
        self, parameters: Iterable[nn.Parameter], examples: int, epochs: int, rng: np.random.Generator, loss: Loss
    ) -> None:
        """Train ``parameters``, seeing each of so many ``examples`` once an epoch, in an order that ``rng`` draws."""
        optimizer = torch.optim.AdamW(parameters, lr=self.rate, weight_decay=self.decay)
        batches = examples // self.batch
        steps = epochs * batches
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=steps, pct_start=self.warming)
        with tqdm(total=steps * self.batch, desc="train", unit=self.unit) as bar:
            for epoch in range(epochs):
                order = rng.permutation(examples)
                for rows in np.array_split(order[: batches * self.batch], batches):
                    lost, shown = loss(epoch / epochs, rows)
                    optimizer.zero_grad()
                    lost.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    rates.step()
                    bar.set_postfix(epoch=epoch + 1, loss=shown, refresh=False)
                    bar.update(self.batch)


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
