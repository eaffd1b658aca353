"""Evaluation on scenes that the model has not seen: does it name the objects, and do its maps point at them?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from gradcam_service.zoo.dataset import FIRST_TRAINING_SEED, wide_scene
from gradcam_service.zoo.network import ScenesNetwork, normalise
from gradcam_service.zoo.scenes import CLASSES, SIZE, Scene, scene

_BATCH = 50


@dataclass(frozen=True)
class Figures:
    """Figures measured on one kind of scenes; all are fractions, 1 is perfect.

    Attributes:
        precision: average precision of each class, in the order of `CLASSES`.
        named: scenes whose highest score belongs to a class that is there.
        pointing: objects of each class whose map peaks inside their visible mask, in the order of `CLASSES`.
        pointed: objects of all classes whose map peaks inside their visible mask.
        all_pointed: scenes of which that is true for every object.
    """

    precision: tuple[float, ...]
    named: float
    pointing: tuple[float, ...]
    pointed: float
    all_pointed: float

    @property
    def mean_average_precision(self) -> float:
        """The mean over classes of their average precision."""
        return sum(self.precision) / len(self.precision)


def evaluate(model: ScenesNetwork, n: int = 2000) -> dict[str, Figures]:
    """The figures on ``n`` unseen scenes of each kind: ``ordinary`` (1–4 objects), ``two`` (objects) and ``wide``."""
    if n > FIRST_TRAINING_SEED:
        raise ValueError(f"There are {FIRST_TRAINING_SEED} unseen scenes, not {n}.")
    kinds: dict[str, Callable[[int], Scene]] = {"ordinary": scene, "two": partial(scene, objects=2), "wide": wide_scene}
    return {kind: measure(model, draw, n, kind) for kind, draw in kinds.items()}


def measure(model: ScenesNetwork, draw: Callable[[int], Scene], n: int, title: str) -> Figures:
    """The figures on the scenes ``draw(0)`` … ``draw(n - 1)``."""
    scores, present, hits = [], [], []
    model.eval()
    with tqdm(total=n, desc=f"measure {title}", unit="scene") as bar:
        for start in range(0, n, _BATCH):
            scenes = [draw(seed) for seed in range(start, min(start + _BATCH, n))]
            images = normalise(torch.from_numpy(np.stack([s.image for s in scenes])))
            with torch.inference_mode():
                scores.append(model(images).numpy())
            present.append(np.stack([_present(s) for s in scenes]))
            hits.extend(_hits(model, images, scenes))
            bar.update(len(scenes))
    return _figures(np.concatenate(scores), np.concatenate(present), hits)


def grad_cam(model: ScenesNetwork, images: Tensor, targets: Tensor) -> Tensor:
    """Grad-CAM of ``targets`` int64 (N,) in normalised ``images`` (N, 3, H, W): maps (N, h, w), not negative.

    After global average pooling over Z positions the gradient of logit c with respect to channel k is w_ck / Z
    everywhere, so the map is relu(Σ_k w_ck A_k) / Z.
    """
    with torch.inference_mode():
        maps = model.features(images)
        weighted = torch.einsum("nk,nkhw->nhw", model.fc.weight[targets], maps)
        return weighted.relu() / weighted[0].numel()


def _present(of: Scene) -> NDArray[np.bool_]:
    """Which classes (12,) are in the scene."""
    return np.isin(np.arange(len(CLASSES)), [item.label for item in of.objects])


def _hits(model: ScenesNetwork, images: Tensor, scenes: Sequence[Scene]) -> list[list[tuple[int, bool]]]:
    """For each scene, for each of its objects: its class, and whether its map peaks inside its visible mask."""
    rows = torch.tensor([row for row, s in enumerate(scenes) for _ in s.objects])
    targets = torch.tensor([item.label for s in scenes for item in s.objects])
    maps = grad_cam(model, images[rows], targets)[:, None]
    peaks = interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False).flatten(1).argmax(1).tolist()
    following = iter(peaks)
    return [[(item.label, bool(item.mask.flat[next(following)])) for item in s.objects] for s in scenes]


def _figures(
    scores: NDArray[np.float32], present: NDArray[np.bool_], hits: Sequence[Sequence[tuple[int, bool]]]
) -> Figures:
    """Sums up the scores (n, 12), the truth (n, 12) and the hits of n scenes."""
    by_class: list[list[bool]] = [[] for _ in CLASSES]
    for label, hit in (pair for of_scene in hits for pair in of_scene):
        by_class[label].append(hit)
    return Figures(
        precision=tuple(average_precision(scores[:, c], present[:, c]) for c in range(len(CLASSES))),
        named=float(present[np.arange(len(scores)), scores.argmax(axis=1)].mean()),
        pointing=tuple(float(np.mean(of_class)) for of_class in by_class),
        pointed=float(np.mean(np.concatenate(by_class))),
        all_pointed=float(np.mean([all(hit for _, hit in of_scene) for of_scene in hits])),
    )


def average_precision(scores: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """The mean, over the scenes (n,) that hold the class, of the precision at their place in the ranking by score."""
    ranked = present[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked].mean())
