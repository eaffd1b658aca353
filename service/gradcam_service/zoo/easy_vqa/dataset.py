"""The data set easy-VQA as arrays; the package is needed for training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.zoo.easy_vqa.language import ANSWERS, LENGTH, PAD, VOCABULARY, tokens, words

SIZE = 64
"""Pixels of a picture's side."""

NONE = -100
"""The answer where there is no question; torch's cross-entropy passes over it."""

_FAR = 60  # RGB distance from the background's colour from which a pixel belongs to the shape, its edge blended


@dataclass(frozen=True)
class Examples:
    """One of the data set's parts.

    Attributes:
        images: uint8 (N, 64, 64, 3).
        masks: bool (N, 64, 64), the pixels of the shape.
        tokens: int64 (N, Q, 9), the questions about each picture as `language.tokens` gives them, then padding.
        answers: int64 (N, Q), indices into `ANSWERS`, `NONE` where there is no question.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    answers: NDArray[np.int64]


def load(part: Literal["train", "test"]) -> Examples:
    """The part of the data set that its makers call so: 4,000 pictures with 38,575 questions, 1,000 with 9,673."""
    import easy_vqa

    paths = getattr(easy_vqa, f"get_{part}_image_paths")()
    images = np.stack([np.asarray(Image.open(paths[i]).convert("RGB")) for i in range(len(paths))])
    about: list[list[tuple[str, str]]] = [[] for _ in images]
    for question, answer, picture in zip(*getattr(easy_vqa, f"get_{part}_questions")(), strict=True):
        about[picture].append((question, answer))
    most = max(map(len, about))
    asked = np.full((len(images), most, LENGTH), VOCABULARY.index(PAD), dtype=np.int64)
    answers = np.full((len(images), most), NONE, dtype=np.int64)
    for picture, pairs in enumerate(about):
        for place, (question, answer) in enumerate(pairs):
            asked[picture, place] = tokens(words(question))
            answers[picture, place] = ANSWERS.index(answer)
    return Examples(images, np.stack([mask(image) for image in images]), asked, answers)


def mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels (H, W) of the one shape in ``image``: those far from the commonest colour of the picture's border."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    colours, counts = np.unique(border, axis=0, return_counts=True)
    distance = np.linalg.norm(image.astype(np.float64) - colours[counts.argmax()], axis=2)
    shape: NDArray[np.bool_] = distance > _FAR
    return shape
