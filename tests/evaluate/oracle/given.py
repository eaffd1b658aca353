"""What Quantus and the tests are given alike: pictures of one channel, maps, masks, and a tiny network.

One channel, since a feature is one number of the picture to Quantus, and one pixel in all its channels here.
"""

import numpy as np

_RANDOM = np.random.default_rng(11)
SIDE = 10
IMAGES = _RANDOM.normal(size=(4, 1, SIDE, SIDE)).astype(np.float32)
MASKS = np.zeros((4, SIDE, SIDE), bool)
for _mask, (_y, _x) in zip(MASKS, [(0, 0), (3, 1), (2, 5), (4, 4)], strict=True):
    _mask[_y : _y + 5, _x : _x + 5] = True
_HIDDEN = _RANDOM.normal(size=(12, SIDE * SIDE)).astype(np.float32) / 5
_SCORES = _RANDOM.normal(size=(3, 12)).astype(np.float32)

STEPS = 10
"""Of deletion's curve."""
SUBSET, SUBSETS = 20, 30
"""Pixels of a random set, and sets, of sensitivity-n."""
RADIUS, NOISY = 0.1, 10
"""Of max-sensitivity's noise, and pictures with it."""
SEED = 5
"""Of numpy.random.Generator, from which sets and noise are drawn."""


def logits(images: np.ndarray) -> np.ndarray:
    """(N, 1, SIDE, SIDE) → (N, 3)."""
    return np.tanh(images.reshape(len(images), -1) @ _HIDDEN.T) @ _SCORES.T


def explained(images: np.ndarray) -> np.ndarray:
    """Maps (N, SIDE, SIDE) that change with their pictures: each value's cube, by a weight."""
    return images[:, 0] ** 3 * _HIDDEN[0].reshape(SIDE, SIDE)


LABELS = logits(IMAGES).argmax(1)
"""Of the highest scores, (4,)."""
MAPS = np.exp(IMAGES[:, 0] * (_SCORES @ _HIDDEN)[LABELS].reshape(-1, SIDE, SIDE))
"""(4, SIDE, SIDE), positive: about what each pixel adds to the score."""
