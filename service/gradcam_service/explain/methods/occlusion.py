"""Occlusion: Zeiler & Fergus, ECCV 2014, https://arxiv.org/abs/1311.2901."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.method import Case, Iterative, Option

if TYPE_CHECKING:
    from gradcam_service.explain.subject import Steps, Subject


def occlusion(subject: Subject, window: int, stride: int) -> Steps:
    """What the score loses where a window of the mean colour covers the image.

    A pixel's value is y_c(x) − y_c(x covered), averaged over the windows that cover it. Windows start every ``stride``
    pixels; the last ones are cut off at the border. All targets share the forward passes.

    Args:
        subject: what to explain.
        window: side of the square window, pixels of the model's input.
        stride: step of the window, at most ``window``, so that every pixel is covered.

    Returns:
        maps: (T, H, W), signed, logit units.
    """
    image = subject.image
    xp, (height, width) = arrays(image), image.shape[2:]
    windows = [(y, x) for y in _starts(height, window, stride) for x in _starts(width, window, stride)]
    total = xp.zeros((len(subject.objectives), height, width), dtype=image.dtype, device=image.device)
    covered = xp.zeros_like(total[0])
    reference = subject.scores(image)[0]
    for first in range(0, len(windows), subject.chunk):
        some = windows[first : first + subject.chunk]
        losses = reference - subject.scores(_covered(image, some, window))
        for (y, x), loss in zip(some, losses, strict=True):
            total[:, y : y + window, x : x + window] += loss[:, None, None]
            covered[y : y + window, x : x + window] += 1
        yield
    return total / covered


def _passes(case: Case, window: int, stride: int) -> int:
    rows, columns = (len(_starts(length, window, stride)) for length in case.input_size)
    return 1 + rows * columns


def _gaps(window: int, stride: int) -> str:
    return "stride must be at most window, or parts of the image would never be covered" if stride > window else ""


def _starts(length: int, window: int, stride: int) -> list[int]:
    return [i * stride for i in range(1 + math.ceil(max(0, length - window) / stride))]


def _covered(image: Array, windows: list[tuple[int, int]], window: int) -> Array:
    images = image[[0] * len(windows)]  # copies
    for row, (y, x) in zip(images, windows, strict=True):
        row[:, y : y + window, x : x + window] = 0
    return images


METHOD = Iterative(
    title="Occlusion",
    summary="what hurts {target} when it is covered",
    paper="https://arxiv.org/abs/1311.2901",
    kind="signed",
    needs=set(),
    options={
        "window": Option(default=32, ge=1, le=512, description="side of the window, input pixels"),
        "stride": Option(default=16, ge=1, le=512, description="step of the window, at most its side"),
    },
    wrong_together=_gaps,
    steps=occlusion,
    passes=_passes,
)
