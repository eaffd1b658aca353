"""What an expensive method works on, and how it lets others in between."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradcam_service.explain.cut import Cut
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.network import Network

Steps = Generator[None, None, Tensor]
"""An explanation under way: each step costs at most one forward and backward pass of `Subject.chunk` images, and the
worker may serve others between two steps. Returns the maps."""


@dataclass(frozen=True)
class Subject:
    """One image to be explained for one or several targets.

    Attributes:
        network: the whole network.
        cut: the network cut at the layer asked for.
        image: (1, C, H, W), as the network receives it.
        frontier: what crosses the cut, one row.
        targets: (T,) int64, class indices.
        chunk: most images in one forward pass.
    """

    network: Network
    cut: Cut
    image: Tensor
    frontier: Frontier
    targets: Tensor
    chunk: int

    @property
    def grid(self) -> Tensor:
        """The feature maps as (1, K, h, w)."""
        return self.cut.layer.layout.to_grid(self.frontier.features)

    def scores(self, images: Tensor) -> Tensor:
        """The targets' scores (N, T) of images (N, C, H, W), logit units."""
        return self.network.scores(images)[:, self.targets]

    def probabilities(self, images: Tensor) -> Tensor:
        """The targets' probabilities (N, T) of images (N, C, H, W)."""
        return self.network.probabilities(self.network.scores(images))[:, self.targets]

    def random(self, seed: int) -> torch.Generator:
        """A source of random numbers that depends on nothing but the seed, not even on the device."""
        return torch.Generator().manual_seed(seed)
