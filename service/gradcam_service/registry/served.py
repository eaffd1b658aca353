"""A model that can answer, whichever engine computes it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from gradcam_service.explain.arrays import Array
from gradcam_service.explain.parts import Network
from gradcam_service.question import Question
from gradcam_service.registry.card import Card
from gradcam_service.registry.spec import Spec
from gradcam_service.runtime import Precision


class Waited(Protocol):
    """Work of a process of its own for a model that is to be faster: exports its backbone, or races its runtimes.

    See `gradcam_service.registry.traces.Exporter` and `gradcam_service.compiled.race.Race`.
    """

    def is_ready(self) -> bool:
        """Whether there is nothing to wait for."""

    def export(self) -> None:
        """Have it done, whatever it is."""


class ServedModel(Protocol):
    """A loaded model: `gradcam_service.registry.loader.LoadedModel` of torch, or one of compiled graphs."""

    @property
    def spec(self) -> Spec:
        """What it was to be."""

    @property
    def card(self) -> Card:
        """What it says of itself."""

    @property
    def network(self) -> Network:
        """What computes its scores and maps."""

    @property
    def others(self) -> tuple[str, ...]:
        """Why it isn't on this or that runtime, once it has been made faster."""

    @property
    def exporter(self) -> Waited | None:
        """What has to be waited for before it can be made faster."""

    def answers(self, question: Question | None) -> bool:
        """Whether it is what answers this, and not the full model that it is the compiled form of."""

    def batch(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> tuple[Array, ...]:
        """The network's inputs of a batch: images (N, C, H, W) float32, and tokens (N, T) int64 where it takes any."""

    def accelerated(self, precision: Precision, cache_bytes: int) -> ServedModel | str:
        """The same model on a faster runtime; why there is none, where there isn't.

        Args:
            precision: to compute feature maps in, where the model itself doesn't say.
            cache_bytes: that what is fetched and compiled may take on the disk; 0 for no bound.
        """

    def placed(self, values: np.ndarray) -> Array:
        """Numbers where the network computes."""
