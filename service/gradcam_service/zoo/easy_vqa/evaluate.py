"""Evaluation on the data set's test part: is the answer right, and does its map point at the shape?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from gradcam_service.zoo.easy_vqa.dataset import NONE, Examples
from gradcam_service.zoo.easy_vqa.language import ANSWERS, COLOURS, SHAPES
from gradcam_service.zoo.easy_vqa.network import VqaNetwork
from gradcam_service.zoo.network import normalise

KINDS = {
    "which colour": COLOURS,
    "which shape": SHAPES,
    "is it there: yes": ("yes",),
    "is it there: no": ("no",),
}
"""Kinds of questions, by their right answers."""

_BATCH = 500


@dataclass(frozen=True)
class Figures:
    """What was measured on the questions of one kind.

    Attributes:
        questions: how many there are.
        right: the share whose top answer is right.
        hirescam: the share whose HiResCAM map, of the top answer, has its maximum on the shape.
        gradcam: the same of Grad-CAM.
    """

    questions: int
    right: float
    hirescam: float
    gradcam: float


def evaluate(model: VqaNetwork, examples: Examples) -> dict[str, Figures]:
    """The figures of each kind of question in ``examples``, and of ``all``."""
    model.eval()
    pictures, places = np.nonzero(examples.answers != NONE)
    answers, pointed = [], []
    for start in tqdm(range(0, len(pictures), _BATCH), desc="measure", unit="batch"):
        of, at = pictures[start : start + _BATCH], places[start : start + _BATCH]
        images = normalise(torch.from_numpy(examples.images[of]))
        *maps, top = explain(model, images, torch.from_numpy(examples.tokens[of, at]))
        answers.append(top.numpy())
        pointed.append(np.stack([points(of_method, examples.masks[of]) for of_method in maps]))
    return figures(examples.answers[pictures, places], np.concatenate(answers), np.concatenate(pointed, axis=1))


def figures(truth: NDArray[np.int64], answers: NDArray[np.int64], pointed: NDArray[np.bool_]) -> dict[str, Figures]:
    """Sums up M questions.

    Args:
        truth: the right answers (M,).
        answers: the top answers (M,).
        pointed: whether the maps of these peak on the shape (2, M), those of HiResCAM first and then of Grad-CAM.
    """
    rows = {"all": np.ones(len(truth), dtype=np.bool_)}
    for kind, of_kind in KINDS.items():
        rows[kind] = np.isin(truth, [ANSWERS.index(answer) for answer in of_kind])
    return {
        kind: Figures(int(of.sum()), float((answers == truth)[of].mean()), *map(float, pointed[:, of].mean(axis=1)))
        for kind, of in rows.items()
    }


def explain(model: VqaNetwork, images: Tensor, questions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The top answers to questions, explained at the last feature map.

    Args:
        model: in evaluation mode.
        images: normalised (N, 3, H, W).
        questions: tokens (N, T).

    Returns:
        Maps (N, h, w), not negative, of HiResCAM (https://arxiv.org/abs/2011.08891), the same of Grad-CAM, and the
        answers int64 (N,).
    """
    maps = model.backbone(images).detach().requires_grad_()
    scores, top = model.decide(maps, questions[:, None])[:, 0].max(1)
    (gradient,) = torch.autograd.grad(scores.sum(), maps)
    maps = maps.detach()
    return (gradient * maps).sum(1).relu(), (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu(), top


def points(maps: Tensor, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each map (N, h, w), enlarged bilinearly, has its maximum in its mask (N, H, W); an empty one hasn't."""
    large = interpolate(maps[:, None], masks.shape[1:], mode="bilinear", align_corners=False).flatten(1)
    highest, where = large.max(1)
    found: NDArray[np.bool_] = masks.reshape(len(masks), -1)[np.arange(len(masks)), where] & (highest > 0).numpy()
    return found
