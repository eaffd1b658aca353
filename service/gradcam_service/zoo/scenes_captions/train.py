"""Trains `scenes-captions`: ``python -m gradcam_service.zoo.scenes_captions.train`` (what ``make zoo`` calls).

Draws captioned scenes, keeps what the convolutions of `scenes` see in them, which are not trained any more, trains the
rest, writes weights, vocabulary and the digest in `model.yaml`, then measures on unseen scenes and writes the card.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy
from tqdm import tqdm

from gradcam_service.zoo.network import normalise
from gradcam_service.zoo.scenes_captions.card import card
from gradcam_service.zoo.scenes_captions.evaluate import evaluate
from gradcam_service.zoo.scenes_captions.examples import Examples, draw
from gradcam_service.zoo.scenes_captions.language import PAD, VOCABULARY
from gradcam_service.zoo.scenes_captions.network import CaptionsNetwork, Shapes, captions_network
from gradcam_service.zoo.training import Schedule, cost
from gradcam_service.zoo.weights import save

_MODELS = Path(__file__).parent.parent / "models"
MODEL = _MODELS / "scenes-captions" / "1"
SCENES = _MODELS / "scenes" / "1" / "weights.safetensors"

_SCHEDULE = Schedule(batch=64, rate=2e-3, decay=0.02, warming=0.15, unit="scene")
_LOOKING, _POINTING = 0.2, 0.1  # weights of the two losses beside the cross-entropy
_PAD = VOCABULARY.index(PAD)


def train(examples: Examples, epochs: int, seed: int) -> CaptionsNetwork:
    """A network trained on ``examples``, at least 64, each seen ``epochs`` times; it sees shapes as `scenes` does."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = captions_network()
    given = {name: value for name, value in load_file(SCENES).items() if not name.startswith("fc.")}
    model.backbone.shapes.load_state_dict(given)
    shapes = seen(model.backbone.shapes.eval().requires_grad_(False), examples.images)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def loss(_: float, rows: NDArray[np.int64]) -> tuple[Tensor, str]:
        told, looked, pointed = losses = _losses(model, examples, shapes, rows)
        shown = " + ".join(f"{float(one.detach()):.3f}" for one in losses)
        return told + _LOOKING * looked + _POINTING * pointed, shown

    _SCHEDULE.descend(trained, len(examples.images), epochs, rng, loss)
    return model


def seen(shapes: Shapes, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """What ``shapes`` sees in pictures (N, 128, 128, 3): (N, 128, 16, 16), once for all epochs."""
    maps = np.empty((len(images), 128, 16, 16), dtype=np.float16)
    with tqdm(total=len(images), desc="look", unit="scene") as bar, torch.inference_mode():
        for start in range(0, len(images), _SCHEDULE.batch):
            rows = slice(start, start + _SCHEDULE.batch)
            maps[rows] = shapes(normalise(torch.from_numpy(images[rows]))).numpy()
            bar.update(len(maps[rows]))
    return maps


def _losses(
    model: CaptionsNetwork, examples: Examples, shapes: NDArray[np.float16], rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses of the examples ``rows``: is each word foreseen, is it looked up where it is, is it seen there?"""
    images = normalise(torch.from_numpy(examples.images[rows]))
    maps = model.backbone.merged(images, torch.from_numpy(shapes[rows]).float())
    tokens = torch.from_numpy(examples.tokens[rows])
    logits, attention = model.decode(maps, tokens[:, :-1])
    told = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=_PAD)
    pictures, places = np.nonzero(examples.of[rows])
    covered = torch.from_numpy(examples.regions[rows][pictures] == examples.of[rows][pictures, places][:, None, None])
    covered = adaptive_avg_pool2d(covered.float(), (maps.shape[2], maps.shape[3])).flatten(1)
    evidence = model.evidence(maps).flatten(2)[pictures, tokens[pictures, places + 1]].relu()
    shares = evidence / (evidence.sum(1, keepdim=True) + 1e-6)
    return told, _missed(attention[pictures, places], covered), _missed(shares, covered)


def _missed(shares: Tensor, covered: Tensor) -> Tensor:
    """Minus the logarithm of how much of ``shares`` (M, cells), which add up to 1, lies where ``covered``; the mean."""
    return -((shares * covered).sum(1) + 1e-3).log().mean()


@click.command()
@click.option("--scenes", default=16_000, show_default=True, help="How many scenes to train on.")
@click.option("--epochs", default=8, show_default=True, help="How often to see each.")
@click.option("--measure", default=2_000, show_default=True, help="How many unseen scenes to measure on.")
@click.option("--seed", default=0, show_default=True, help="Of the initial weights and the order.")
@click.option("--threads", default=2, show_default=True, help="Of torch, and processes that draw.")
def main(scenes: int, epochs: int, measure: int, seed: int, threads: int) -> None:
    """Train the embedded model, measure it and write its card."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    model = train(draw(scenes, processes=threads), epochs, seed)
    took = cost(model, save(model, MODEL, vocabulary=VOCABULARY), started)
    (MODEL / "CARD.md").write_text(card(evaluate(model, measure), took, scenes, epochs, measure), encoding="utf-8")
    click.echo((MODEL / "CARD.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
