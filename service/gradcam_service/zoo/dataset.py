"""Scenes by the ten thousand: drawn once, by several processes, as arrays to train on.

Training draws from seeds of `FIRST_TRAINING_SEED` and above and nothing else does: every smaller seed is unseen.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gradcam_service.zoo.scenes import CLASSES, SIZE, Scene, scene

FIRST_TRAINING_SEED = 1_000_000

_BAR = 128  # round(255 · 0.5): what a picture is padded with is what the network takes for zero
_CHUNK = 250

Value = TypeVar("Value", bound=np.generic)


def letterboxed(picture: NDArray[Value], fill: int) -> NDArray[Value]:
    """``picture`` (H, W, …) centred in a square of its longest side, the rest being ``fill``."""
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.full((side, side, *picture.shape[2:]), fill, dtype=picture.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def wide_scene(seed: int) -> Scene:
    """A scene of one object, 1.5 to 3 times as wide as it is high, padded to a square as the service pads photos."""
    aspect = np.random.default_rng([seed, 4]).uniform(1.5, 3.0)
    drawn = scene(seed, objects=1, aspect=aspect)
    (only,) = drawn.objects
    above = (SIZE - drawn.image.shape[0]) // 2
    x0, y0, x1, y1 = only.box
    moved = replace(only, mask=letterboxed(only.mask, 0), box=(x0, y0 + above, x1, y1 + above))
    return Scene(letterboxed(drawn.image, _BAR), (moved,))


@dataclass(frozen=True)
class Examples:
    """Examples to train on.

    Attributes:
        images: uint8 (N, 128, 128, 3).
        labels: float32 (N, 12), 1 for the classes that are there and 0 for the others.
        regions: uint8 (N, 128, 128), 1 + the class of the object that is visible in a pixel, 0 where there is none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    regions: NDArray[np.uint8]


def example(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """One example: a picture (128, 128, 3), labels (12,) and regions (128, 128) as in `Examples`.

    Seven of ten are ordinary scenes. The others are strips between bars, as wide photos become, so that small objects
    and bars are nothing new; a few have no object at all.
    """
    rng = np.random.default_rng([seed, 3])
    aspect = float(rng.uniform(1.1, 3.2)) if rng.random() < 0.3 else 1.0
    objects = 0 if rng.random() < 0.04 else int(rng.integers(1, 5))
    drawn = scene(seed, objects=objects, aspect=aspect)
    labels = np.zeros(len(CLASSES), dtype=np.float32)
    regions = np.zeros(drawn.image.shape[:2], dtype=np.uint8)
    for item in drawn.objects:
        labels[item.label] = 1
        regions[item.mask] = 1 + item.label
    return letterboxed(drawn.image, _BAR), labels, letterboxed(regions, 0)


def _examples(seeds: range) -> Examples:
    images, labels, regions = zip(*map(example, seeds), strict=True)
    return Examples(np.stack(images), np.stack(labels), np.stack(regions))


def draw(count: int, processes: int = 2) -> Examples:
    """``count`` examples, drawn by ``processes`` processes."""
    examples = Examples(
        images=np.empty((count, SIZE, SIZE, 3), dtype=np.uint8),
        labels=np.empty((count, len(CLASSES)), dtype=np.float32),
        regions=np.empty((count, SIZE, SIZE), dtype=np.uint8),
    )
    starts = range(0, count, _CHUNK)
    chunks = [range(FIRST_TRAINING_SEED + s, FIRST_TRAINING_SEED + min(s + _CHUNK, count)) for s in starts]
    # Spawned rather than forked: the parent has torch's threads, which a fork would not carry over.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool, tqdm(total=count, desc="draw", unit="scene") as bar:
        for start, some in zip(starts, pool.map(_examples, chunks), strict=True):
            rows = slice(start, start + len(some.images))
            examples.images[rows], examples.labels[rows], examples.regions[rows] = (
                some.images,
                some.labels,
                some.regions,
            )
            bar.update(len(some.images))
    return examples
