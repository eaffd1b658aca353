"""Ablation-CAM: Desai & Ramaswamy, WACV 2020, https://doi.org/10.1109/WACV45572.2020.9093360."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.explain.method import Iterative, Need

if TYPE_CHECKING:
    from torch import Tensor

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
    import torch

    grid, weight = subject.grid, subject.cut.head.weight
    with torch.no_grad():
        outputs = subject.cut.head.scores(
            subject.frontier, *subject.others
        ).double()  # small differences of large values are to come
    if weight is not None:
        ablated = outputs - (weight.T * grid.mean(dim=(2, 3)).T).double()
    else:
        ablated = yield from _ablated(subject)
    values = subject.values(outputs)
    drops = values - subject.values(ablated.double())
    weights = torch.where(values != 0, drops / values, 0.0).to(grid.dtype)
    return torch.einsum("kt,khw->thw", weights, grid[0]).clip(min=0)


def _ablated(subject: Subject) -> Steps:
    """The outputs without each channel, y^k as (K, classes)."""
    import torch

    head, channels = subject.cut.head, subject.cut.layer.channels
    dimension = subject.cut.layer.layout.channels
    ablated: list[Tensor] = []
    for chosen in torch.split(torch.arange(channels, device=subject.image.device), subject.chunk):
        repeated = subject.frontier.rows([0] * len(chosen))
        rows = torch.arange(len(chosen), device=chosen.device)
        repeated.features.movedim(dimension, 1)[rows, chosen] = 0  # a copy, as rows are
        with torch.no_grad():
            ablated.append(head.scores(repeated, *subject.beside(len(chosen))))
        yield
    return torch.cat(ablated)


METHOD = Iterative(
    title="Ablation-CAM",
    summary="the features without which {target} would lose most",
    paper="https://doi.org/10.1109/WACV45572.2020.9093360",
    needs={Need.FEATURES},
    steps=ablationcam,
    passes=lambda case: 0 if case.linear_head else case.channels,
)
