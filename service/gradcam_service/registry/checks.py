"""Checks of a model before it answers anybody: what would make its answers wrong without a word.

Two made-up pictures are predicted together, and one of them alone, twice. What can't be right is refused; what may be
is told in the model's card. Scores may differ by `_TOLERANCE` of the largest, which is also what runtimes may differ
by, and by what the rounding of the picture itself, to what its device computes with, changes in a network that is that
sensitive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import interpolate

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.explain.cut import gradient
from gradcam_service.explain.endings import has_both_sides
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.graph import ancestors, descendants, operator_name, scores_node
from gradcam_service.explain.layers import non_differentiable
from gradcam_service.explain.method import Need
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.registry.card import CheckCard

_TOLERANCE = 1e-4
_EPS_TF32 = 2.0**-10
"""Of the ten bits that GPUs keep of float32 (https://docs.pytorch.org/docs/stable/notes/cuda.html)."""
_SUM = 1e-3
"""How far from one the sum of probabilities may be, which may have been clipped or computed in half precision."""
_STRONG = 100
"""How many times stronger than a picture another is that would drive small logits out of the range of probabilities."""


@dataclass(frozen=True)
class Findings:
    """What checks have found of a model that can answer.

    Attributes:
        cards: each check, passed or not.
        lacking: what methods need and the model doesn't have, and why.
    """

    cards: list[CheckCard]
    lacking: dict[Need, str]


@torch.no_grad()
def examine(
    network: Network, channels: int, size: tuple[int, int], device: torch.device, others: Sequence[Tensor] = ()
) -> Findings:
    """Ask a network about two pictures; this also warms it up.

    Args:
        network: on ``device``.
        channels: of its images.
        size: (H, W) of its images.
        device: where they are made.
        others: the network's other inputs, a row each, which is the same for all images.

    Raises:
        ModelFailed: it rolls dice, mixes pictures, or gives no numbers or probabilities in the place of logits.
    """
    images, asked = made_up(channels, size).to(device), _Asked(network, others)
    frontier, scores = network.predict(images, *asked.beside(images))
    alone, again = asked.scores(images[:1]), asked.scores(images[:1])
    finite = _finite(scores)
    repeatable = _repeatable(asked, images, alone, again)
    independent = _independent(asked, images, scores, alone)
    logits = _logits(asked, images, network.of_classes(scores))
    lacking = _without_gradient(asked, images, frontier, scores)
    passes = CheckCard("gradient", not lacking, "; ".join(dict.fromkeys(lacking.values())))
    return Findings([finite, repeatable, independent, logits, passes], lacking)


@dataclass(frozen=True)
class _Asked:
    """A network that is asked about pictures alone: its other inputs are the same for all of them.

    Attributes:
        network: the network.
        others: its other inputs, a row each.
    """

    network: Network
    others: Sequence[Tensor]

    def beside(self, images: Tensor) -> list[Tensor]:
        """The other inputs, a row for each image."""
        return [other.expand(len(images), *other.shape[1:]) for other in self.others]

    def scores(self, images: Tensor) -> Tensor:
        """The scores of images (N, C, H, W)."""
        return self.network.scores(images, *self.beside(images))


def made_up(channels: int, size: tuple[int, int]) -> Tensor:
    """Two pictures (2, C, H, W) of blobs and grain, normalised: about 0, with a variance of about 1."""
    generator = torch.Generator().manual_seed(0)
    blobs = interpolate(torch.randn(2, channels, 8, 8, generator=generator), size, mode="bilinear")
    return blobs + 0.5 * torch.randn(2, channels, *size, generator=generator)


def _finite(scores: Tensor) -> CheckCard:
    found = scores.isfinite()
    if not found.any():
        raise ModelFailed(f"every score of the model is {scores[0, 0].item()}; are its weights damaged or incomplete?")
    detail = "some scores of made-up pictures are not finite; answers with such scores are refused"
    return CheckCard("finite", bool(found.all()), "" if found.all() else detail)


def _repeatable(asked: _Asked, images: Tensor, alone: Tensor, again: Tensor) -> CheckCard:
    dice = _random_operators(asked.network.traced.graph)
    if _largest(again - alone) > _TOLERANCE * _largest(alone) and (dice or _differs(asked, images[:1], again, alone)):
        raise ModelFailed(
            f"the model answers the same picture differently each time: {', '.join(dice) or 'something in it'} draws "
            "random numbers in evaluation, too; pass training=self.training to it, or use its module, as nn.Dropout"
        )
    return CheckCard("repeatable", passed=True)


def _independent(asked: _Asked, images: Tensor, together: Tensor, alone: Tensor) -> CheckCard:
    if _differs(asked, images[:1], together[:1], alone):
        where = _where_rows_mix(asked.network.traced, (images, *asked.beside(images)))
        raise ModelFailed(
            f"the model mixes the pictures of a batch: {where} makes the scores of a "
            "picture depend on those beside it; BatchNorm needs running statistics (track_running_stats), or normalise "
            "each picture by itself"
        )
    return CheckCard("independent", passed=True)


def _differs(asked: _Asked, image: Tensor, found: Tensor, expected: Tensor) -> bool:
    """Whether two answers to a picture differ by more than rounding explains."""
    beyond = _largest(found - expected) - _TOLERANCE * _largest(expected)
    if beyond <= 0:
        return False
    signs = torch.randint(0, 2, image.shape, generator=torch.Generator().manual_seed(0)).to(image) * 2 - 1
    rounded = asked.scores(image * (1 + rounding(image) * signs))
    return beyond > 2 * _largest(rounded - expected)


def rounding(image: Tensor) -> float:
    """The relative distance of the numbers that a convolution of an image tells apart, on the image's device."""
    tf32 = image.device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return _EPS_TF32 if tf32 else torch.finfo(image.dtype).eps


def _largest(values: Tensor) -> float:
    """The largest |value| of those that are finite."""
    return float(values[values.isfinite()].abs().max()) if values.isfinite().any() else 0.0


def _logits(asked: _Asked, images: Tensor, scores: Tensor) -> CheckCard:
    """Whether the scores are what the activation is applied to, as far as can be told."""
    activation, inside = asked.network.activation, _inside(scores)
    scores = scores.reshape(-1, asked.network.classes)
    sums = (scores.sum(1) - 1).abs().max()
    detail = ""
    if activation == "softmax" and inside and sums <= _SUM:
        raise ModelFailed(
            "the model's scores are probabilities already, ≥ 0 and of sum 1, and softmax would be applied once more; "
            "return logits, or say activation: none for scores as they are"
        )
    if activation == "softmax" and scores.logsumexp(1).abs().max() <= _SUM:
        detail = "the scores are logarithms of probabilities; these are right, and maps explain their logarithms"
    elif activation == "sigmoid" and _are_probabilities(asked, images, scores):
        detail = "all scores are between 0 and 1; if they are probabilities already, say activation: none"
    elif activation == "none" and not inside:
        detail = "scores as they are, some below 0 or above 1, so that probability in answers is none"
    return CheckCard("logits", not detail, detail)


def _are_probabilities(asked: _Asked, images: Tensor, scores: Tensor) -> bool:
    """Whether scores seem to be probabilities each: they stay between 0 and 1 however strong the picture is."""
    own = slice(1, None) if has_both_sides(asked.network.traced) else slice(None)
    if not _inside(scores[:, own]) or not scores[:, own].std() > 0:
        return False
    return _inside(asked.network.of_classes(asked.scores(_STRONG * images))[:, own])


def _inside(scores: Tensor) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _without_gradient(asked: _Asked, images: Tensor, frontier: Frontier, scores: Tensor) -> dict[Need, str]:
    """Which gradients the network doesn't have, of those that it isn't known not to have; and why."""
    network, beside = asked.network, asked.beside(images)
    aims, lacking = Logit(network.of_classes(scores).argmax(1)), {}
    head, others = network.cut.head, frontier.having(frontier.features.flip(0))
    if not non_differentiable(head.module.graph):
        reacts = not torch.equal(head.scores(others, *beside), scores)
        reason = _blocked(lambda: head.gradients(frontier, aims, *beside), reacts)
        if reason:
            end = _where_gradient_ends(head.module)
            lacking[Need.LAYER_GRADIENT] = (
                f"no gradient of the scores reaches {network.cut.layer.name}: {end or reason}"
            )
    if not non_differentiable(network.traced.graph):
        reacts = not torch.equal(scores[0], scores[1])
        first = Logit(aims.targets[:1])
        one = asked.beside(images[:1])
        reason = _blocked(lambda: gradient(lambda leaf: first(network.traced(leaf, *one)), images[:1]), reacts)
        if reason:
            lacking[Need.INPUT_GRADIENT] = f"no gradient of the scores reaches the picture: {reason}"
    return lacking


def _blocked(gradients: Callable[[], Tensor], reacts: bool) -> str:
    """Why there are no gradients; empty where there are, or where nothing reacts that they could be of."""
    try:
        found = gradients()
    except Exception as error:  # of whatever operators the model has
        return first_line(error)
    if not found.isfinite().all():
        return "it is not finite"
    return "it is zero, though the scores depend on it" if reacts and not found.any() else ""


def _random_operators(graph: fx.Graph) -> list[str]:
    """Operators that draw random numbers for the scores, and the modules that they are in."""
    before = ancestors(scores_node(graph))
    overloads = [node for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload) and node in before]
    return [_named(node) for node in overloads if torch.Tag.nondeterministic_seeded in node.target.tags]


class _FirstRows(fx.Interpreter):
    """Runs a graph and keeps the first row of every value that has as many rows as there are images."""

    def __init__(self, graph_module: fx.GraphModule, *inputs: Tensor) -> None:
        super().__init__(graph_module)
        self._count = len(inputs[0])
        self.rows: dict[fx.Node, Tensor] = {}
        self.run(*inputs)

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401  a value of the graph
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.dim() > 0 and len(value) == self._count and value.is_floating_point():
            self.rows[n] = value[0]
        return value


def _where_rows_mix(network: fx.GraphModule, inputs: tuple[Tensor, ...]) -> str:
    """The first operator whose value of a picture depends on the pictures beside it."""
    together, alone = _FirstRows(network, *inputs).rows, _FirstRows(network, *(each[:1] for each in inputs)).rows
    for node, row in together.items():
        own = alone.get(node)
        if own is not None and own.shape == row.shape and (row - own).abs().max() > 10 * _TOLERANCE * own.abs().max():
            return _named(node)
    return "something in it"


def _where_gradient_ends(head: fx.GraphModule) -> str:
    """The first operator after the feature maps whose value has no gradient; empty where all have."""
    features, *_ = head.graph.find_nodes(op="placeholder")
    after = descendants(features)
    ended = next((node for node in head.graph.nodes if node in after and not _keeps_gradient(node)), None)
    return f"it ends at {_named(ended)}" if ended is not None else ""


def _keeps_gradient(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or value.is_floating_point()


def _named(node: fx.Node) -> str:
    """``dropout in classifier.1``."""
    if operator_name(node) == "getitem":
        return _named(node.all_input_nodes[0])
    *_, path = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path] or [""]
    name = operator_name(node).removeprefix("_").removeprefix("native_")
    return f"{name} in {path}" if path else name
