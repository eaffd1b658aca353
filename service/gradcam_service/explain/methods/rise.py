"""RISE: Petsiuk et al., BMVC 2018, https://arxiv.org/abs/1806.07421."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from gradcam_service.explain.arrays import arrays, resized
from gradcam_service.explain.method import Iterative, Option

if TYPE_CHECKING:
    from gradcam_service.explain.subject import Steps, Subject


def rise(subject: Subject, masks: int, cells: int, keep: float, seed: int) -> Steps:
    """How probable the class stays when a pixel is seen: S_c = 1/(N p) Σ_i P_c(x ⊙ M_i) M_i (eq. 6).

    Masks are random grids of ``cells``², each cell kept with probability p, upsampled bilinearly and shifted by up to a
    cell. What is masked has the mean colour. All targets share the forward passes. Of a difference of classes, P_c is
    that of their probabilities: S is linear in P, so that its map is the difference of the maps.

    Args:
        subject: what to explain.
        masks: N.
        cells: cells along a side of a mask.
        keep: p.
        seed: of the masks.

    Returns:
        maps: (T, H, W), probability, ≥ 0 of a class.
    """
    image, drawn = subject.image, _numbers(seed)
    xp, (height, width) = arrays(image), image.shape[2:]
    step = -(-height // cells), -(-width // cells)
    grids = (drawn(masks * cells * cells) % 2**24 < np.float32(keep) * 2**24).reshape(masks, cells, cells)
    tops, lefts = drawn(masks) % step[0], drawn(masks) % step[1]
    total = xp.zeros((len(subject.objectives), height, width), dtype=image.dtype, device=image.device)
    for first in range(0, masks, subject.chunk):
        some = slice(first, first + subject.chunk)
        small = xp.asarray(grids[some], dtype=image.dtype, device=image.device)
        large = resized(small, ((cells + 1) * step[0], (cells + 1) * step[1]))
        shifted = [
            mask[y : y + height, x : x + width] for mask, y, x in zip(large, tops[some], lefts[some], strict=True)
        ]
        seen = xp.stack(shifted)
        total += xp.einsum("nt,nhw->thw", subject.probabilities(image * seen[:, None]), seen)
        yield
    return total / (masks * keep)


def _numbers(seed: int) -> Callable[[int], np.ndarray]:
    """The Mersenne twister's numbers of 32 bits, as many as asked for at each call: torch draws the same of a seed."""
    twister = np.random.RandomState(seed % 2**32)
    return lambda count: twister.randint(0, 2**32, count, dtype=np.uint32).astype(np.int64)


METHOD = Iterative(
    title="RISE",
    summary="what of the picture {target} needs to be seen, by random masks",
    paper="https://arxiv.org/abs/1806.07421",
    kind_of_difference="signed",
    needs=set(),
    options={
        "masks": Option(default=1000, ge=1, le=100_000, description="how many masks"),
        "cells": Option(default=7, ge=2, le=64, description="cells along a side of a mask"),
        "keep": Option(default=0.5, gt=0, le=1, description="share of cells that stay"),
        "seed": Option(default=0, ge=0, le=2**63 - 1, description="of what is random"),
    },
    steps=rise,
    passes=lambda case, masks, **_: masks,
)
