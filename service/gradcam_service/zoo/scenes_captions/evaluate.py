"""Evaluation on scenes that the model has not seen: is the caption right, and do its words' maps point at objects?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from gradcam_service.zoo.dataset import FIRST_TRAINING_SEED
from gradcam_service.zoo.network import normalise
from gradcam_service.zoo.scenes import CLASSES, Scene
from gradcam_service.zoo.scenes_captions.examples import coloured_scene
from gradcam_service.zoo.scenes_captions.language import COLOURS, END, LENGTH, PAD, START, VOCABULARY, caption, named
from gradcam_service.zoo.scenes_captions.network import CaptionsNetwork

_BATCH = 50
_PAD, _START, _END = (VOCABULARY.index(word) for word in (PAD, START, END))


@dataclass(frozen=True, eq=False)
class Described:
    """What a model said of a picture.

    Attributes:
        words: its caption.
        peaks: for each word (x, y), the pixel of the scene in which its map is highest; None where the map is empty.
    """

    words: tuple[str, ...]
    peaks: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Figures:
    """Figures measured on unseen scenes; all are fractions, 1 is perfect.

    Attributes:
        named: captions that name all objects with their colours and nothing else.
        exact: captions that are the scene's, word by word.
        shapes: words for shapes whose map peaks inside the visible mask of that shape.
        colours: words for colours whose map peaks inside that of the shape that they are said of.
        others: every other word → how often its map peaks on any object.
        counts: every other word → how often it was said.
    """

    named: float
    exact: float
    shapes: float
    colours: float
    others: dict[str, float]
    counts: dict[str, int]


def evaluate(model: CaptionsNetwork, n: int) -> Figures:
    """The figures on the unseen scenes 0 … ``n`` - 1."""
    if n > FIRST_TRAINING_SEED:
        raise ValueError(f"There are {FIRST_TRAINING_SEED} unseen scenes, not {n}.")
    model.eval()
    scenes, described = [], []
    for start in tqdm(range(0, n, _BATCH), desc="measure", unit="batch"):
        some = [coloured_scene(seed) for seed in range(start, min(start + _BATCH, n))]
        described += describe(model, np.stack([s.image for s in some]))
        scenes += some
    return figures(zip(scenes, described, strict=True))


def describe(model: CaptionsNetwork, pictures: NDArray[np.uint8]) -> list[Described]:
    """What a model in evaluation mode says of ``pictures`` (N, 128, 128, 3), word by word the likeliest one."""
    with torch.no_grad():
        maps = model.backbone(normalise(torch.from_numpy(pictures)))
        tokens = greedy(model, maps)
    words = [[VOCABULARY[token] for token in row] for row in tokens[:, 1:].tolist()]
    peaks = [_peaks(of_word, pictures.shape[1]) for of_word in grad_cam(model, maps, tokens)]
    said = []
    for row, text in enumerate(words):
        length = next((i for i, word in enumerate(text) if word in (PAD, END)), len(text))
        said.append(Described(tuple(text[:length]), tuple(of_word[row] for of_word in peaks[:length])))
    return said


def greedy(model: CaptionsNetwork, maps: Tensor) -> Tensor:
    """The captions of the last feature maps (N, 128, h, w): tokens int64 (N, `LENGTH` + 1) from ``<start>`` on."""
    tokens = torch.full((len(maps), LENGTH + 1), _PAD)
    tokens[:, 0] = _START
    done = torch.zeros(len(maps), dtype=torch.bool)
    for at in range(LENGTH):
        following = model.decode(maps, tokens[:, : at + 1])[0][:, -1].argmax(1)
        tokens[:, at + 1] = following.masked_fill(done, _PAD)
        done |= following == _END
    return tokens


def grad_cam(model: CaptionsNetwork, maps: Tensor, tokens: Tensor) -> Iterable[Tensor]:
    """Grad-CAM of the words of captions: for each of them in turn the maps (N, h, w), not negative.

    Args:
        model: in evaluation mode.
        maps: the last feature maps (N, 128, h, w).
        tokens: int64 (N, T), the captions from ``<start>`` on.
    """
    leaf = maps.detach().requires_grad_()
    scores = model.decode(leaf, tokens[:, :-1])[0].gather(2, tokens[:, 1:, None]).sum((0, 2))
    for score in scores:
        (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
        yield (gradient.mean((2, 3), keepdim=True) * maps).sum(1).relu()


def _peaks(maps: Tensor, size: int) -> list[tuple[int, int] | None]:
    """Where each map (N, h, w), enlarged bilinearly to ``size`` pixels, is highest."""
    highest, where = interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False).flatten(1).max(1)
    places = zip(highest.tolist(), where.tolist(), strict=True)
    return [(at % size, at // size) if value > 0 else None for value, at in places]


def figures(described: Iterable[tuple[Scene, Described]]) -> Figures:
    """Sums up what was said of scenes."""
    right, exact = [], []
    hits: dict[str, list[bool]] = {"shape": [], "colour": []}
    others: Counter[str] = Counter()
    on_any: Counter[str] = Counter()
    for of, said in described:
        truth = [word.text for word in caption(of)]
        right.append(named(said.words) == named(truth))
        exact.append(list(said.words) == truth)
        masks = {CLASSES[item.label]: item.mask for item in of.objects}
        for i, word in enumerate(said.words):
            if word in CLASSES:
                hits["shape"].append(_inside(said.peaks[i], masks.get(word)))
            elif word in COLOURS:
                hits["colour"].append(_inside(said.peaks[i], masks.get(_following(said.words, i))))
            else:
                others[word] += 1
                on_any[word] += any(_inside(said.peaks[i], mask) for mask in masks.values())
    return Figures(
        named=float(np.mean(right)),
        exact=float(np.mean(exact)),
        shapes=float(np.mean(hits["shape"])),
        colours=float(np.mean(hits["colour"])),
        others={word: on_any[word] / count for word, count in others.most_common()},
        counts=dict(others.most_common()),
    )


def _following(words: Sequence[str], at: int) -> str:
    """The word after the one at ``at``; empty where there is none."""
    return words[at + 1] if at + 1 < len(words) else ""


def _inside(peak: tuple[int, int] | None, mask: NDArray[np.bool_] | None) -> bool:
    """Whether a map peaks inside ``mask``; not where the map is empty or what is spoken of isn't there."""
    return peak is not None and mask is not None and bool(mask[peak[1], peak[0]])
