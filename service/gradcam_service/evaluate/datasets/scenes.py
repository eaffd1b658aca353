"""Scenes: drawn shapes with masks, of which the embedded model `scenes` has seen none."""

from __future__ import annotations

import io
from functools import lru_cache, partial

import numpy as np
from PIL import Image

from gradcam_service.evaluate.datasets import Source
from gradcam_service.evaluate.sample import Collected, Sample, Thing
from gradcam_service.zoo.scenes import CLASSES, Scene, scene

_COUNT = 2000
_UNSEEN = 1_000_000
"""Seeds below this one are not trained on; see `gradcam_service.zoo.dataset`."""

_drawn = lru_cache(64)(scene)


class Scenes:
    """See `gradcam_service.evaluate.datasets.Format`. Each scene is drawn when it is asked for."""

    described = "the word scenes: shapes that are drawn here, with masks"

    def reads(self, source: Source) -> bool:
        """The word, where no file is called so."""
        return source.data == "scenes" and not source.path.exists()

    def collect(self, source: Source) -> Collected:
        """The first 2,000, or as many as are wanted."""
        count = min(source.limit or _COUNT, _UNSEEN)
        return Collected([_sample(seed) for seed in range(count)])


def _sample(seed: int) -> Sample:
    things = tuple(
        Thing(CLASSES[item.label], tuple(map(float, item.box)), partial(_mask, seed, place))  # type: ignore[arg-type]
        for place, item in enumerate(_drawn(seed).objects)
    )
    return Sample(f"scene-{seed}", partial(_png, seed), things)


def _mask(seed: int, place: int) -> np.ndarray:
    return _drawn(seed).objects[place].mask


def _png(seed: int) -> bytes:
    of: Scene = _drawn(seed)
    file = io.BytesIO()
    Image.fromarray(of.image).save(file, "PNG", compress_level=1)
    return file.getvalue()


DATASET = Scenes()
