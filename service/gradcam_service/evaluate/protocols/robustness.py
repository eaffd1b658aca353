"""Robustness to adversarial noise: Grad-CAM paper, section 5.2.

The noise is made with the gradients of the network as PyTorch has it, whichever runtime answers otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradcam_service.evaluate.case import Case
from gradcam_service.evaluate.metrics.adversarial import Attacked, Bounds, Slope, pgd
from gradcam_service.evaluate.metrics.arrays import Floats
from gradcam_service.evaluate.protocols import Figure, Protocol
from gradcam_service.explain.cut import gradient
from gradcam_service.explain.layers import non_differentiable
from gradcam_service.explain.method import GRADIENT, Option
from gradcam_service.explain.quality import rank_correlation
from gradcam_service.registry.card import Card
from gradcam_service.registry.loader import LoadedModel


class Robustness(Protocol):
    """See `gradcam_service.evaluate.protocols.Protocol`. A row for each picture of which the model is right."""

    title = "Robustness to adversarial noise"
    summary = (
        "Noise of at most ε is made until the model's first class is another (PGD; with one step FGSM). Does the map "
        "of the true class stay: Spearman's ρ with the map before, and whether it points at the object before and "
        "after? A method that ignores the network stays as well: see the sanity checks."
    )
    paper = "https://arxiv.org/abs/1610.02391"
    figures = {  # noqa: RUF012  a constant
        "flipped": Figure("label flipped", ""),
        "correlation": Figure("ρ with the map before"),
        "before": Figure("hits before"),
        "after": Figure("hits after"),
    }
    of_pictures = True
    options = {  # noqa: RUF012  likewise
        "epsilon": Option(default=8.0, description="most that a pixel changes, of 255 to white", gt=0, le=255),
        "steps": Option(default=10, description="of a quarter of epsilon, or one of all of it", ge=1, le=1000),
    }

    def passes(self, method: str, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of a map."""
        return cost(method)

    def shared_passes(self, maps: int, cost: Callable[[str], float], **options: float) -> float:
        """Those of the gradients."""
        return GRADIENT * (options["steps"] + 1)

    def measure(self, case: Case, **options: float) -> list[dict[str, Any]]:
        """The map of the true class before and after."""
        (label,) = case.top(1)
        if label not in case.sample.labels or non_differentiable(case.asked.model.network.traced.graph):
            return []
        epsilon, steps = options["epsilon"] / 255, int(options["steps"])

        def attack() -> Attacked:
            return attacked(case.asked.model, case.image, label, epsilon, steps)

        found = case.once(("attacked", epsilon, steps), attack)
        row: dict[str, Any] = {"label": label, "flipped": found.flipped, "steps": found.steps}
        if found.flipped:
            before, after = case.saliency(label), case.explain(found.image[None], label)[0]
            row["correlation"] = rank_correlation(before, after)
            where = case.where(label)
            if where is not None and where.any():
                row |= {"before": _points(before, where), "after": _points(after, where)}
        return [row]


def attacked(model: LoadedModel, image: np.ndarray, label: int, epsilon: float, steps: int) -> Attacked:
    """An adversarial picture of an image (C, H, W) that the model takes for what it is.

    Args:
        model: with a gradient.
        image: as the network receives it.
        label: its class.
        epsilon: most that a pixel changes, as a share of what there is between black and white.
        steps: at most so many.
    """
    size = 1.0 if steps == 1 else 0.25
    return pgd(_slope(model, label), image, label, bounds(model.card, image, epsilon), steps, size)


def bounds(card: Card, image: np.ndarray, epsilon: float) -> Bounds:
    """Limits of what an image (C, H, W) may become: pixels from black to white, that is, from 0 to 1.

    Floating-point numbers without a range in ``model.yaml`` have neither: of these, each band's own extremes are taken.
    """
    if card.input.depth == "float" and card.input.range is None:
        low, high = image.min((1, 2), keepdims=True), image.max((1, 2), keepdims=True)
    else:
        mean, std = (np.array(of)[:, None, None] for of in (card.preprocess.mean, card.preprocess.std))
        low, high = np.sort([(0 - mean) / std, (1 - mean) / std], axis=0)
    return Bounds(epsilon * (high - low), low, high)


def _slope(model: LoadedModel, label: int) -> Slope:
    network = model.network

    def slope(pictures: np.ndarray) -> tuple[Floats, Floats]:
        images = torch.from_numpy(pictures).to(model.device)

        def loss(leaf: Tensor) -> Tensor:
            wanted = torch.full((len(leaf),), label, device=leaf.device)
            return cross_entropy(network.traced(leaf), wanted, reduction="none")

        with network.undisturbed():
            slopes = gradient(loss, images)
            scores = network.scores(images)
        return scores.float().cpu().numpy(), slopes.cpu().numpy()

    return slope


def _points(saliency: Floats, where: np.ndarray) -> bool:
    return bool(saliency.max() > 0 and where.flat[saliency.argmax()])


PROTOCOL = Robustness()
