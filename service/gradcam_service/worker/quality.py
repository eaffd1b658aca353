"""Quality of single maps: deletion and insertion, and agreement with another method, worked out step by step."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from gradcam_service.explain import batch
from gradcam_service.explain.arrays import Array, on_host, resized
from gradcam_service.explain.batch import Explaining, Explanation
from gradcam_service.explain.costs import forward_passes
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.objectives import Objective
from gradcam_service.explain.quality import area_under, blurred, rank_correlation, replaced
from gradcam_service.question import Measure, Question
from gradcam_service.registry.served import ServedModel
from gradcam_service.targets import objective
from gradcam_service.worker.messages import Quality

_PATCHES = 14
"""Along the shorter side of the input: as many as the paper's feature maps have cells."""


def measuring_passes(model: ServedModel, question: Question, targets: int) -> int:
    """What the quality of so many maps costs, in forward passes of the whole network."""
    assert question.measure is not None
    curves, against = 2 * (question.measure.steps + 1) * targets, question.measure.against
    if not against:
        return curves
    size = model.card.preprocess.input_size
    return curves + forward_passes(METHODS[against], model.network, question.layer, size, targets, {})


def measured(
    model: ServedModel,
    inputs: tuple[Array, ...],
    frontier: Frontier,
    scores: Array,
    question: Question,
    explained: Explanation | Explaining,
) -> Explaining:
    """An explanation, and what is to be measured of its maps; a step scores as many pictures as one pass takes.

    Args:
        model: that explains.
        inputs: of one image, as the network receives them: (1, C, H, W), and what text there is, which stays.
        frontier: what crosses the cut of it.
        scores: (1, classes) of it.
        question: of at least one target.
        explained: its answer, or what works that out.
    """
    assert question.measure is not None
    image, *text = inputs
    own = explained if isinstance(explained, Explanation) else (yield from explained)
    others = None
    if question.measure.against:
        compared = msgspec.structs.replace(question, method=question.measure.against, options={}, measure=None)
        given = (frontier, scores, [compared], model.card.batch, objective, tuple(text))
        (other,) = batch.explain(model.network, image, *given)
        assert other is not None
        others = other if isinstance(other, Explanation) else (yield from other)
    qualities = []
    for place, target in enumerate(question.targets):
        other_map = None if others is None else others.maps[place]
        aim = objective([target], scores)
        qualities.append((yield from _quality(model, inputs, aim, own.maps[place], other_map, question.measure)))
    return replace(own, quality=tuple(qualities))


def _quality(
    model: ServedModel,
    inputs: tuple[Array, ...],
    aim: Objective,
    own: Array,
    other: Array | None,
    measure: Measure,
) -> Generator[None, None, Quality]:
    """The quality of one map of an image; ``inputs`` as for `measured`."""
    image, *text = inputs
    size, picture = model.card.preprocess.input_size, np.asarray(on_host(image[0]))
    saliency, rho = _saliency(own, size), math.nan
    deletion = yield from _area(model, aim, replaced(picture, np.zeros_like(picture), saliency, measure.steps), text)
    insertion = yield from _area(model, aim, replaced(blurred(picture), picture, saliency, measure.steps), text)
    if other is not None:
        rho = rank_correlation(saliency, _saliency(other, size), max(1, min(size) // _PATCHES))
    return Quality(
        deletion, insertion, measure.steps, measure.against or None, agreement=None if math.isnan(rho) else rho
    )


def _area(
    model: ServedModel, aim: Objective, pictures: np.ndarray, text: Sequence[Array]
) -> Generator[None, None, float]:
    """The area under the curve of what is explained, after the activation, in these pictures with this text."""
    values: list[np.ndarray] = []
    for first in range(0, len(pictures), model.card.batch):
        some = pictures[first : first + model.card.batch]
        beside = (tokens[[0] * len(some)] for tokens in text)
        scores = model.network.scores(model.placed(some), *beside)
        values.append(np.asarray(on_host(aim(model.network.probabilities(scores)))))
        yield
    return area_under(np.linspace(0, 1, len(pictures)), np.concatenate(values).astype(np.float64))


def _saliency(cam: Array, size: tuple[int, int]) -> np.ndarray:
    """A map as large as the input, (H, W), bilinearly; of signed colours their mean magnitude."""
    flat = np.asarray(cam)
    large: np.ndarray = resized((abs(flat).mean(axis=2) if flat.ndim == 3 else flat).astype(np.float64), size)
    return large
