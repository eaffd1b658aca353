"""RISE: Petsiuk et al., BMVC 2018, https://arxiv.org/abs/1806.07421."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    import torch
    from torch.nn.functional import interpolate

    image, random = subject.image, subject.random(seed)
    height, width = image.shape[2:]
    step = -(-height // cells), -(-width // cells)
    grids = (torch.rand(masks, 1, cells, cells, generator=random) < keep).to(image)
    tops = torch.randint(0, step[0], (masks,), generator=random)
    lefts = torch.randint(0, step[1], (masks,), generator=random)
    total = torch.zeros(len(subject.objectives), height, width, dtype=image.dtype, device=image.device)
    for some in torch.split(torch.arange(masks), subject.chunk):
        large = interpolate(
            grids[some], size=((cells + 1) * step[0], (cells + 1) * step[1]), mode="bilinear", align_corners=False
        )
        shifted = [
            mask[:, y : y + height, x : x + width] for mask, y, x in zip(large, tops[some], lefts[some], strict=True)
        ]
        seen = torch.stack(shifted)
        total += torch.einsum("nt,nhw->thw", subject.probabilities(image * seen), seen[:, 0])
        yield
    return total / (masks * keep)


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
