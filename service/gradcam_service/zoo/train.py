"""Trains `scenes` from nothing: ``python -m gradcam_service.zoo.train`` (what ``make zoo`` calls).

Draws the scenes, trains, writes weights, labels and the digest in `model.yaml`, then measures on unseen scenes and
writes the card. Repeatable from its seed on one machine; another number of threads rounds differently.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits

from gradcam_service.zoo.augment import augmented
from gradcam_service.zoo.card import Training, card
from gradcam_service.zoo.dataset import Examples, draw
from gradcam_service.zoo.evaluate import evaluate
from gradcam_service.zoo.network import ScenesNetwork, normalise, scenes_network
from gradcam_service.zoo.scenes import CLASSES
from gradcam_service.zoo.training import Schedule, cost
from gradcam_service.zoo.weights import save

MODEL = Path(__file__).parent / "models" / "scenes" / "1"

_SCHEDULE = Schedule(batch=64, rate=4e-3, decay=0.02, warming=0.2, unit="scene")


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        until: the fraction of all epochs at which it ends.
        size: of the pictures, in pixels.
        pointing: weight of the pointing loss beside the cross-entropy.
    """

    until: float
    size: int
    pointing: float


# Small pictures first: they cost a quarter. Pointing last: weighed in from the start, the network learns where objects
# are before it learns which is which, and names them much later.
STAGES = (Stage(0.25, 64, 0.0), Stage(0.5, 96, 0.0), Stage(1.0, 128, 0.1))


def train(examples: Examples, epochs: int, seed: int) -> ScenesNetwork:
    """A network trained on ``examples``, each seen ``epochs`` times."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = scenes_network().to(memory_format=torch.channels_last)

    def loss(done: float, rows: NDArray[np.int64]) -> tuple[Tensor, str]:
        stage = next(stage for stage in STAGES if done < stage.until)
        classified, pointed = _losses(model, examples, rows, stage.size, rng)
        return classified + stage.pointing * pointed, f"{classified:.3f} + {pointed:.3f}"

    _SCHEDULE.descend(model.parameters(), len(examples.images), epochs, rng, loss)
    return model


def _losses(
    model: ScenesNetwork, examples: Examples, rows: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The losses of the examples ``rows`` at ``size`` pixels: is every class named, and is it seen where it is?"""
    images = normalise(torch.from_numpy(examples.images[rows]))
    images, regions = augmented(images, torch.from_numpy(examples.regions[rows]), size, rng)
    labels = torch.from_numpy(examples.labels[rows])
    maps = model.features(images)
    classified = binary_cross_entropy_with_logits(model.head(maps), labels)
    return classified, pointing_loss(model.evidence(maps), regions, labels)


def pointing_loss(evidence: Tensor, regions: Tensor, labels: Tensor) -> Tensor:
    """How far the maps of the classes that are there lie off their objects.

    For each such class, minus the logarithm of the share of its positive evidence that lies on its object, a cell that
    the object covers in part counting in part. Nothing but the share matters: how strong the evidence has to be is for
    the classification to say.

    Args:
        evidence: float32 (N, 12, h, w).
        regions: uint8 (N, H, W), as in `Examples`; H and W are multiples of h and w.
        labels: float32 (N, 12), 0 or 1.

    Returns:
        The mean over all classes in all pictures, a scalar.
    """
    rows, classes = labels.nonzero(as_tuple=True)
    positive = evidence[rows, classes].relu()
    covered = (regions[rows] == 1 + classes[:, None, None]).float()
    covered = adaptive_avg_pool2d(covered, (positive.shape[1], positive.shape[2]))
    share = (positive * covered).sum((1, 2)) / (positive.sum((1, 2)) + 1e-6)
    return -(share + 1e-3).log().mean()


@click.command()
@click.option("--scenes", default=40_000, show_default=True, help="How many scenes to train on.")
@click.option("--epochs", default=10, show_default=True, help="How often to see each.")
@click.option("--measure", default=2_000, show_default=True, help="How many unseen scenes of each kind to measure on.")
@click.option("--seed", default=0, show_default=True, help="Of the initial weights, the order and the augmentation.")
@click.option("--threads", default=2, show_default=True, help="Of torch, and processes that draw.")
def main(scenes: int, epochs: int, measure: int, seed: int, threads: int) -> None:
    """Train the embedded model from nothing, measure it and write its card."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    model = train(draw(scenes, processes=threads), epochs, seed)
    size = save(model, MODEL, labels=CLASSES)
    training = Training(
        command="python -m gradcam_service.zoo.train",
        scenes=scenes,
        epochs=epochs,
        cost=cost(model, size, started),
        measured_on=measure,
    )
    (MODEL / "CARD.md").write_text(card(evaluate(model, measure), training), encoding="utf-8")
    click.echo((MODEL / "CARD.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
