"""Subject of an iterative method, and the steps between which others are served."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradcam_service.explain.cut import Cut, gradient
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Objective

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
        objectives: what it is explained for, each made for one target.
        chunk: most images in one forward pass.
        others: the network's other inputs, one row each.
    """

    network: Network
    cut: Cut
    image: Tensor
    frontier: Frontier
    objectives: Sequence[Objective]
    chunk: int
    others: tuple[Tensor, ...] = ()

    def beside(self, rows: int) -> tuple[Tensor, ...]:
        """The other inputs, the same for so many images."""
        return tuple(other.expand(rows, *other.shape[1:]) for other in self.others)

    @property
    def early(self) -> bool:
        """Whether nearly the whole network is behind the cut, not a cheap head."""
        return self.network.is_early(self.cut)

    @property
    def grid(self) -> Tensor:
        """The feature maps as (1, K, h, w)."""
        return self.cut.layer.layout.to_grid(self.frontier.features)

    def values(self, outputs: Tensor) -> Tensor:
        """The objectives (N, T) of outputs (N, classes)."""
        return torch.stack([objective(outputs) for objective in self.objectives], dim=1)

    def scores(self, images: Tensor) -> Tensor:
        """The objectives (N, T) of the scores of images (N, C, H, W)."""
        return self.values(self.network.scores(images, *self.beside(len(images))))

    def probabilities(self, images: Tensor) -> Tensor:
        """The objectives (N, T) of the probabilities of images (N, C, H, W)."""
        scores = self.network.scores(images, *self.beside(len(images)))
        return self.values(self.network.probabilities(scores))

    def slopes(self, images: Tensor, objective: Objective, network: Callable[..., Tensor] | None = None) -> Tensor:
        """The gradient of each image's objective with respect to the image, (N, C, H, W).

        Args:
            images: where.
            objective: of the outputs, N rows.
            network: what computes these, unless it is the network itself.
        """
        others = self.beside(len(images))
        return gradient(lambda leaf: objective((network or self.network.traced)(leaf, *others)), images)

    def random(self, seed: int) -> torch.Generator:
        """A source of random numbers that depends on nothing but the seed, not even on the device."""
        return torch.Generator().manual_seed(seed)
