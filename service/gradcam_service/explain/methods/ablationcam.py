"""Ablation-CAM: Desai & Ramaswamy, WACV 2020, https://doi.org/10.1109/WACV45572.2020.9093360."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.arrays import Array, arrays
from gradcam_service.explain.method import Iterative, Need

if TYPE_CHECKING:
    from gradcam_service.explain.subject import Steps, Subject


def ablationcam(subject: Subject) -> Steps:
    """Weights from what is lost without a channel, not from gradients.

    L_c = ReLU(Σ_k w_ck A_k), w_ck = (y_c − y_c^k) / y_c, y_c^k being the score with channel k set to 0 (eq. 3). Only
    the head runs again; where it is global average pooling → linear, y − y^k = W_k · mean(A_k) and nothing does.
    Of a difference of classes, y_c is that difference; where it is negative, the paper's division turns the map around,
    as it does for a class of a negative score, and what speaks for the other side is shown.

    Returns:
        maps: (T, h, w), units of activation, ≥ 0.
    """
    grid, weight = subject.grid, subject.cut.head.weight
    xp = arrays(grid)
    outputs = _double(subject.cut.head.scores(subject.frontier, *subject.others))  # small differences of large values
    if weight is not None:
        ablated = outputs - _double(weight.swapaxes(0, 1) * grid.mean(axis=(2, 3)).swapaxes(0, 1))
    else:
        ablated = yield from _ablated(subject)
    values = subject.values(outputs)
    drops = values - subject.values(_double(ablated))
    weights = xp.where(values != 0, drops / xp.where(values != 0, values, 1.0), 0.0)
    return xp.einsum("kt,khw->thw", xp.asarray(weights, dtype=grid.dtype), grid[0]).clip(min=0)


def _ablated(subject: Subject) -> Steps:
    """The outputs without each channel, y^k as (K, classes)."""
    xp, head, layer = arrays(subject.grid), subject.cut.head, subject.cut.layer
    ablated: list[Array] = []
    for first in range(0, layer.channels, subject.chunk):
        chosen = range(first, min(first + subject.chunk, layer.channels))
        repeated = subject.frontier.rows([0] * len(chosen))
        channels_first = xp.moveaxis(repeated.features, layer.layout.channels, 1)
        channels_first[list(range(len(chosen))), list(chosen)] = 0  # in a copy, as rows are
        ablated.append(head.scores(repeated, *subject.beside(len(chosen))))
        yield
    return xp.concatenate(ablated)


def _double(values: Array) -> Array:
    xp = arrays(values)
    return xp.asarray(values, dtype=xp.float64)


METHOD = Iterative(
    title="Ablation-CAM",
    summary="the features without which {target} would lose most",
    paper="https://doi.org/10.1109/WACV45572.2020.9093360",
    needs={Need.FEATURES},
    steps=ablationcam,
    passes=lambda case: 0 if case.linear_head else case.channels,
)
