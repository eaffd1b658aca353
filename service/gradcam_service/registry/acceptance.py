"""Acceptance of a runtime that computes in less than float32: by what callers see of it, on real pictures.

Single values of feature maps differ by up to 0.2 of the largest in bfloat16, where scores and maps hardly do. So the
answers are compared: the most probable class, probabilities, and Grad-CAM's maps of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradcam_service.errors import ServiceError
from gradcam_service.explain.activation import UNCHANGED
from gradcam_service.explain.arrays import Array, arrays, on_host
from gradcam_service.explain.batch import row_maps
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods import DEFAULT, METHODS
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.parts import Network
from gradcam_service.inputs import INPUTS, OWN_PIXELS, Preparing, Takes

_PROBABILITY = 0.05
"""Most that a probability may differ by; of scores that are none, of the largest."""
_COSINE = 0.999
"""Least cosine between two maps."""
_PICTURES = Path(__file__).parents[1] / "pictures"


@dataclass(frozen=True)
class Figures:
    """How far answers are from those in float32.

    Attributes:
        other_classes: pictures whose most probable class is another, and that isn't nearly as probable.
        probability: the largest difference of a probability; of scores that are none, as a part of the largest.
        cosine: the smallest cosine between two maps of the class that is the most probable in float32.
        pictures: how many were compared.
    """

    other_classes: int
    probability: float
    cosine: float
    pictures: int

    @property
    def accepted(self) -> bool:
        """Whether callers would hardly notice; never if anything is not finite."""
        return self.other_classes == 0 and self.probability <= _PROBABILITY and self.cosine >= _COSINE

    def __str__(self) -> str:
        return (
            f"of {self.pictures} pictures {self.other_classes} have another most probable class, probabilities differ "
            f"by up to {self.probability:.3f} ({_PROBABILITY} may be), maps have a cosine of at least "
            f"{self.cosine:.5f} ({_COSINE} must be)"
        )


def real_pictures(takes: Takes, preprocess: Preparing) -> Iterator[np.ndarray]:
    """The photographs and drawings that come with the service, as a model takes them; none where it takes no JPEGs."""
    for file in sorted(_PICTURES.glob("*.jpg")):
        with suppress(ServiceError):
            received = INPUTS[takes.reader].receive(file.read_bytes(), takes, preprocess, OWN_PIXELS)
            yield received.inputs["image"]


def compare(
    exact: Network,
    other: Network,
    batches: Iterable[Array],
    others: tuple[Array, ...] = (),
    differentiable: bool = True,
) -> Figures:
    """Compare the answers of two networks, which differ in what computes them.

    Args:
        exact: in float32.
        other: the same network, in less or on another runtime.
        batches: images (N, C, H, W), normalised.
        others: the networks' other inputs, a row each, which is the same for all images.
        differentiable: whether there are Grad-CAM's maps to compare; else the feature maps themselves are.
    """
    unlike, probability, cosine, count = 0, 0.0, 1.0, 0
    for images in batches:
        beside = tuple(each[[0] * len(images)] for each in others)
        (before, scores), (after, found) = exact.predict(images, *beside), other.predict(images, *beside)
        expected, said = (np.asarray(on_host(exact.probabilities(each))) for each in (scores, found))
        unit = abs(expected).max() if exact.activation in UNCHANGED else 1.0
        rows, top = np.arange(len(images)), expected.argmax(1)
        lost = expected[rows, top] - expected[rows, said.argmax(1)]
        classes = arrays(scores).asarray(top, device=scores.device)
        maps, seen = (
            _maps(network, frontier, classes, beside, differentiable)
            for network, frontier in ((exact, before), (other, after))
        )
        unlike += int((lost > _PROBABILITY * unit).sum())
        probability = max(probability, _worst(abs(said - expected).max() / unit))
        cosine = min(cosine, -_worst(-_cosines(maps, seen).min()))
        count += len(images)
    return Figures(unlike, probability, cosine, count)


def _maps(
    network: Network, frontier: Frontier, classes: Array, beside: tuple[Array, ...], differentiable: bool
) -> np.ndarray:
    """A row of numbers for each image: its map of its class."""
    found = (
        row_maps(METHODS[DEFAULT], network.cut, frontier, Logit(classes), {}, beside)  # type: ignore[arg-type]
        if differentiable
        else network.cut.layer.layout.to_grid(frontier.features)
    )
    rows: np.ndarray = np.asarray(on_host(found)).reshape(len(classes), -1)
    return rows


def _cosines(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cosine of each two rows; 1 of two that are zero, 0 of one."""
    norms, other_norms = np.linalg.norm(maps, axis=1), np.linalg.norm(others, axis=1)
    product = norms * other_norms
    cosines = (maps * others).sum(1) / np.where(product == 0, 1, product)
    found: np.ndarray = np.where(product == 0, norms == other_norms, cosines)
    return found


def _worst(value: float) -> float:
    """The number, or infinity for what is none."""
    return float(value) if np.isfinite(value) else float("inf")
