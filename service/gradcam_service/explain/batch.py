"""One batch: every image passes the backbone once, whatever is asked about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.cut import Cut, Logit
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.layers import INPUT
from gradcam_service.explain.method import Batched, Iterative, Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.subject import Subject
from gradcam_service.explain.suitability import refusal_at


class Question(Protocol):
    """What is asked about one image besides its scores."""

    @property
    def method(self) -> str:
        """A name in `METHODS`."""

    @property
    def layer(self) -> str:
        """A layer's name, or ``auto``."""

    @property
    def targets(self) -> tuple[int, ...]:
        """Class indices; empty means the class with the highest score."""

    @property
    def options(self) -> Mapping[str, float]:
        """The method's own options, where they differ from its defaults."""


@dataclass(frozen=True)
class Explanation:
    """The answer to a `Question`.

    Attributes:
        layer: the name of the layer that was explained, ``input`` where it is the input.
        targets: class indices, in the question's order.
        maps: (targets, h, w), of signed colours (targets, H, W, C); float32, on the CPU.
    """

    layer: str
    targets: tuple[int, ...]
    maps: Tensor


Explaining = Generator[None, None, Explanation]
"""An explanation under way; others may be served between its steps."""


@torch.inference_mode(False)
def explain(
    network: Network,
    images: Tensor,
    frontier: Frontier,
    scores: Tensor,
    questions: Sequence[Question | None],
    chunk: int,
) -> list[Explanation | Explaining | None]:
    """Answer the questions about a batch that has been predicted.

    Images that ask a batched method the same way are explained together, and an image with several targets repeats its
    values at the cut for the head only. An expensive method's answer is yet to be worked out, step by step.

    Args:
        network: what predicted.
        images: (N, C, H, W), as the network received them.
        frontier: from `Network.predict`.
        scores: (N, classes), likewise.
        questions: one for each image; None where only scores are wanted.
        chunk: most images that an expensive method may send through the network at once.

    Returns:
        One answer for each image, None where nothing was asked.
    """
    best: list[int] = scores.argmax(dim=1).tolist()  # of all at once, since each such answer waits for the device
    targets = [question.targets or (top,) if question else () for question, top in zip(questions, best, strict=True)]
    alike: dict[tuple[str, str, tuple[tuple[str, float], ...]], list[int]] = defaultdict(list)
    answers: list[Explanation | Explaining | None] = [None] * len(questions)
    for row, question in enumerate(questions):
        if question is None:
            continue
        method = METHODS[question.method]
        if isinstance(method, Batched):
            alike[question.method, question.layer, tuple(sorted(question.options.items()))].append(row)
        elif isinstance(method, Iterative):
            cut = network.cut_at(question.layer)
            own = _frontier_at(network, cut, images, frontier, [row])
            asked = torch.tensor(targets[row], device=scores.device)
            subject = Subject(network, cut, images[row : row + 1], own, asked, chunk)
            answers[row] = _stepped(subject, method, question.options, targets[row])
    for (name, layer, options), rows in alike.items():
        cut, method = network.cut_at(layer), METHODS[name]
        assert isinstance(method, Batched)
        chosen = torch.tensor([target for row in rows for target in targets[row]], device=scores.device)
        places = [place for place, row in enumerate(rows) for _ in targets[row]]
        repeated = _frontier_at(network, cut, images, frontier, rows).rows(places)
        # From the default layer on there is little to compute; from an early one, nearly the whole network.
        size = len(chosen) if cut.backbone is network.cut.backbone else chunk
        with torch.no_grad():
            parts = zip(repeated.split(size), torch.split(chosen, size), strict=True)
            maps = torch.cat([row_maps(method, cut, *part, dict(options)).float().cpu() for part in parts])
        for row, own_maps in zip(rows, torch.split(maps, [len(targets[row]) for row in rows]), strict=True):
            answers[row] = Explanation(cut.layer.name, targets[row], own_maps)
    return answers


def row_maps(method: Batched, cut: Cut, frontier: Frontier, targets: Tensor, given: Mapping[str, float]) -> Tensor:
    """Maps (M, h, w) of what crosses a cut in M rows, for a class (M,) each.

    Raises:
        UnsupportedMethod: the method can't explain the network at this cut.
    """
    if refused := refusal_at(method, cut):
        raise UnsupportedMethod(refused)
    options = method.complete(given)
    objective, options = (method.objective(targets, **options), {}) if method.objective else (Logit(targets), options)
    gradients = cut.head.gradients(frontier, objective) if Need.LAYER_GRADIENT in method.needs else None
    maps: Tensor = method.maps(cut.layer.layout.to_grid(frontier.features), gradients, **options)
    return maps


def _stepped(subject: Subject, method: Iterative, given: Mapping[str, float], targets: tuple[int, ...]) -> Explaining:
    maps = yield from method.steps(subject, **method.complete(given))
    if maps.dim() == 4:
        maps = maps.permute(0, 2, 3, 1)
    layer = INPUT if method.of_input else subject.cut.layer.name
    return Explanation(layer, targets, maps.float().cpu().contiguous())


def _frontier_at(network: Network, cut: Cut, images: Tensor, frontier: Frontier, rows: list[int]) -> Frontier:
    """What crosses the cut at a layer, of some rows; at the default layer it is there already."""
    if cut.backbone is network.cut.backbone:
        return frontier.rows(rows)
    with torch.no_grad():
        return cut.frontier(images[rows])
