"""Subject of an iterative method, and the steps between which others are served. Torch-free.

What takes the gradient at the image is for networks in torch alone; a method that needs it says so, and is refused of
others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import cast

from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.objectives import Objective
from gradcam_service.explain.parts import Cut, Network

Steps = Generator[None, None, Array]
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
    image: Array
    frontier: Frontier
    objectives: Sequence[Objective]
    chunk: int
    others: tuple[Array, ...] = ()

    def beside(self, rows: int) -> tuple[Array, ...]:
        """The other inputs, the same for so many images."""
        return tuple(other[[0] * rows] for other in self.others)

    @property
    def early(self) -> bool:
        """Whether nearly the whole network is behind the cut, not a cheap head."""
        return self.network.is_early(self.cut)

    @property
    def grid(self) -> Array:
        """The feature maps as (1, K, h, w)."""
        return self.cut.layer.layout.to_grid(self.frontier.features)

    def values(self, outputs: Array) -> Array:
        """The objectives (N, T) of outputs (N, classes)."""
        return arrays(outputs).stack([objective(outputs) for objective in self.objectives], axis=1)

    def scores(self, images: Array) -> Array:
        """The objectives (N, T) of the scores of images (N, C, H, W)."""
        return self.values(self.network.scores(images, *self.beside(len(images))))

    def probabilities(self, images: Array) -> Array:
        """The objectives (N, T) of the probabilities of images (N, C, H, W)."""
        scores = self.network.scores(images, *self.beside(len(images)))
        return self.values(self.network.probabilities(scores))

    def gradients(self, images: Array, objective: Objective, guided: bool = False) -> Array:
        """The gradient of each image's objective with respect to the image, (N, C, H, W).

        Args:
            images: where.
            objective: of the outputs, N rows.
            guided: whether through guided ReLUs.
        """
        from gradcam_service.explain import network as in_torch
        from gradcam_service.explain.cut import gradient

        others, network = self.beside(len(images)), cast("in_torch.Network", self.network)
        computed = network.guided if guided else network.traced
        return gradient(lambda leaf: objective(computed(leaf, *others)), images)
