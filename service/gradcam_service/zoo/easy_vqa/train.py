"""Trains `easy-vqa`: ``python -m gradcam_service.zoo.easy_vqa.train`` (what ``make zoo MODEL=easy-vqa`` calls).

Trains on the data set's own training part, writes weights, vocabulary, answers and the digest in `model.yaml`, then
measures on its test part and writes the card.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradcam_service.zoo.easy_vqa.card import card
from gradcam_service.zoo.easy_vqa.dataset import Examples, load
from gradcam_service.zoo.easy_vqa.evaluate import evaluate
from gradcam_service.zoo.easy_vqa.language import ANSWERS, VOCABULARY
from gradcam_service.zoo.easy_vqa.network import VqaNetwork, vqa_network
from gradcam_service.zoo.network import normalise
from gradcam_service.zoo.training import Schedule, cost
from gradcam_service.zoo.weights import save

MODEL = Path(__file__).parent.parent / "models" / "easy-vqa" / "1"

# A picture comes with all its questions: one pass of the backbone serves about ten of them.
_SCHEDULE = Schedule(batch=50, rate=3e-3, decay=0.02, warming=0.2, unit="picture")


def train(examples: Examples, epochs: int, seed: int) -> VqaNetwork:
    """A network trained on ``examples``, each picture seen ``epochs`` times with all its questions."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = vqa_network().to(memory_format=torch.channels_last)

    def loss(_: float, rows: NDArray[np.int64]) -> tuple[Tensor, str]:
        lost = _loss(model, examples, rows, rng)
        return lost, f"{lost:.3f}"

    _SCHEDULE.descend(model.parameters(), len(examples.images), epochs, rng, loss)
    return model


def _loss(model: VqaNetwork, examples: Examples, rows: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
    """The cross-entropy of all questions about the pictures ``rows``, which are turned or mirrored."""
    images = torch.rot90(normalise(torch.from_numpy(examples.images[rows])), int(rng.integers(4)), (2, 3))
    maps = model.backbone(images.flip(3) if rng.random() < 0.5 else images)
    logits = model.decide(maps, torch.from_numpy(examples.tokens[rows]))
    return cross_entropy(logits.flatten(0, 1), torch.from_numpy(examples.answers[rows]).flatten())


@click.command()
@click.option("--epochs", default=8, show_default=True, help="How often to see each picture with its questions.")
@click.option("--seed", default=0, show_default=True, help="Of the initial weights, the order and the turning.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
def main(epochs: int, seed: int, threads: int) -> None:
    """Train the embedded model from nothing, measure it and write its card."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    model = train(load("train"), epochs, seed)
    took = cost(model, save(model, MODEL, vocabulary=VOCABULARY, labels=ANSWERS), started)
    (MODEL / "CARD.md").write_text(card(evaluate(model, load("test")), took, epochs), encoding="utf-8")
    click.echo((MODEL / "CARD.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
