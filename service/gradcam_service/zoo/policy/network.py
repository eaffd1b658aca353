"""The network of the embedded model `policy`: convolutions on the cells of a world, then a hidden layer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

ACTIONS = ("left", "right", "forward", "pickup", "drop", "toggle", "done")
"""Of MiniGrid (https://minigrid.farama.org), in its order; nothing in DoorKey asks for ``drop`` and ``done``."""

CELLS = 8
"""Of the world's side."""

TILE = 8
"""Pixels of a cell's side."""

LAYERS = ("features.cells", "features.layer1", "features.layer2")
"""Those with a grid, all of 8 × 8."""

LAYER = LAYERS[0]
"""Where actions are explained by default: after it, what stands for a thing moves to the cells around it."""

METHODS = ("hirescam", "gradcam")
"""Those that are measured, the default first: Grad-CAM averages over the grid what the hidden layer weighs by place."""

METHOD = METHODS[0]

_CHANNELS = 32


class Features(nn.Module):
    """What stable-baselines3 calls a features extractor: pictures in, a vector out that actor and critic share.

    The first convolution's kernel and stride are a cell, so that a place in its feature maps sees one cell of the world
    and no other; the next ones see 3 × 3 and 5 × 5 cells.

    Attributes:
        features_dim: length of the vector.
    """

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.features_dim = 128
        self.cells = nn.Sequential(nn.Conv2d(3, _CHANNELS, TILE, stride=TILE), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(_CHANNELS * CELLS * CELLS, self.features_dim), nn.ReLU())

    def forward(self, frames: Tensor) -> Tensor:
        """Pictures (N, 3, 64, 64) in 0–1 → (N, 128), not negative."""
        maps = self.layer2(self.layer1(self.cells(frames)))
        vector: Tensor = self.hidden(torch.flatten(maps, 1))
        return vector


class PolicyNetwork(nn.Module):
    """Actor and critic on the same features, as stable-baselines3's ``ActorCriticPolicy`` with ``net_arch=[]``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = Features()
        self.action = nn.Linear(self.features.features_dim, len(ACTIONS))
        self.value = nn.Linear(self.features.features_dim, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, 64, 64) in 0–1 → logits (N, 7), one per action, and the value (N, 1) of the state."""
        vector = self.features(frames)
        return self.action(vector), self.value(vector)


def policy_network() -> PolicyNetwork:
    """The network with fresh weights."""
    return PolicyNetwork()


def pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, 64, 64, 3) → float32 (N, 3, 64, 64) in 0–1, as the network expects it."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
