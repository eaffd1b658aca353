"""Captioned scenes by the ten thousand, drawn once by several processes, as arrays to train on."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gradcam_service.zoo.dataset import FIRST_TRAINING_SEED
from gradcam_service.zoo.scenes import SIZE, Scene, scene
from gradcam_service.zoo.scenes_captions.language import COLOURS, LENGTH, caption, tokens

_PALETTE = np.array(list(COLOURS.values()))
_CHUNK = 250


@dataclass(frozen=True)
class Examples:
    """Examples to train on.

    Attributes:
        images: uint8 (N, 128, 128, 3).
        tokens: int64 (N, `LENGTH` + 2), as `language.tokens` gives them.
        regions: uint8 (N, 128, 128), 1 + the index of the object that is visible in a pixel, 0 where there is none.
        of: int64 (N, `LENGTH` + 1), 1 + the index of the object that the word after each token speaks of, or 0.
    """

    images: NDArray[np.uint8]
    tokens: NDArray[np.int64]
    regions: NDArray[np.uint8]
    of: NDArray[np.int64]


def coloured_scene(seed: int) -> Scene:
    """The scene of ``seed``: one to three objects in colours that have names."""
    return scene(seed, objects=1 + int(np.random.default_rng([seed, 5]).integers(3)), colours=_PALETTE)


def draw(count: int, processes: int = 2) -> Examples:
    """``count`` examples, drawn by ``processes`` processes."""
    examples = _empty(count)
    starts = range(0, count, _CHUNK)
    chunks = [range(FIRST_TRAINING_SEED + s, FIRST_TRAINING_SEED + min(s + _CHUNK, count)) for s in starts]
    # Spawned rather than forked: the parent has torch's threads, which a fork would not carry over.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool, tqdm(total=count, desc="draw", unit="scene") as bar:
        for start, some in zip(starts, pool.map(_examples, chunks), strict=True):
            for name, values in vars(some).items():
                getattr(examples, name)[start : start + len(values)] = values
            bar.update(len(some.images))
    return examples


def _empty(count: int) -> Examples:
    return Examples(
        images=np.empty((count, SIZE, SIZE, 3), dtype=np.uint8),
        tokens=np.empty((count, LENGTH + 2), dtype=np.int64),
        regions=np.zeros((count, SIZE, SIZE), dtype=np.uint8),
        of=np.zeros((count, LENGTH + 1), dtype=np.int64),
    )


def _examples(seeds: range) -> Examples:
    examples = _empty(len(seeds))
    for row, seed in enumerate(seeds):
        drawn = coloured_scene(seed)
        words = caption(drawn)
        examples.images[row] = drawn.image
        examples.tokens[row] = tokens([word.text for word in words])
        examples.of[row, : len(words)] = [0 if word.of is None else 1 + word.of for word in words]
        for i, item in enumerate(drawn.objects):
            examples.regions[row][item.mask] = 1 + i
    return examples
