"""One batch: every image passes the backbone once, whatever is asked about it. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.arrays import Array, arrays, on_host
from gradcam_service.explain.costs import refusal_at
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.layout import INPUT
from gradcam_service.explain.method import Batched, Iterative, Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.objectives import Logit, Objective
from gradcam_service.explain.parts import Cut, Network
from gradcam_service.explain.subject import Subject


class Target(Protocol):
    """Target of an explanation; `Objectives` know what it is of."""

    @property
    def kind(self) -> str:
        """Targets of one kind have one objective for many rows."""


Objectives = Callable[[Sequence[Any], Array], Objective]
"""(targets of one kind for a row each, outputs on the rows' device, of as many classes) → the rows' objective."""


class Question(Protocol):
    """Question about one image: the explanations that are asked for besides its scores."""

    @property
    def method(self) -> str:
        """A name in `METHODS`."""

    @property
    def layer(self) -> str:
        """A layer's name, or ``auto``."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is to be explained, at least one."""

    @property
    def options(self) -> Mapping[str, float]:
        """The method's own options, where they differ from its defaults."""


@dataclass(frozen=True)
class Explanation:
    """The answer to a `Question`.

    Attributes:
        layer: the name of the layer that was explained, ``input`` where it is the input.
        targets: those of the question.
        maps: (targets, h, w), of signed colours (targets, H, W, C); float32, on the CPU.
        quality: what was measured of each map, where anything was.
    """

    layer: str
    targets: tuple[Any, ...]
    maps: Array
    quality: tuple[Any, ...] = ()


Explaining = Generator[None, None, Explanation]
"""An explanation under way; others may be served between its steps."""


def explain(
    network: Network,
    images: Array,
    frontier: Frontier,
    scores: Array,
    questions: Sequence[Question | None],
    chunk: int,
    objectives: Objectives,
    others: tuple[Array, ...] = (),
) -> list[Explanation | Explaining | None]:
    """Answer the questions about a batch that has been predicted.

    Images that ask a batched method the same way are explained together, and an image with several targets repeats its
    values at the cut for the head only. An expensive method's answer is yet to be worked out, step by step. So is one
    at another layer than the default one, behind which there is nearly the whole network, if its rows are more than one
    pass takes.

    Args:
        network: what predicted.
        images: (N, C, H, W), as the network received them.
        frontier: from `Network.predict`.
        scores: (N, classes), likewise.
        questions: one for each image; None where only scores are wanted.
        chunk: most images in one pass of the whole network.
        objectives: what targets are to methods.
        others: the network's other inputs, N rows each.

    Returns:
        One answer for each image, None where nothing was asked.
    """
    with network.differentiable():
        return _explained(network, images, frontier, scores, questions, chunk, objectives, others)


def _explained(
    network: Network,
    images: Array,
    frontier: Frontier,
    scores: Array,
    questions: Sequence[Question | None],
    chunk: int,
    objectives: Objectives,
    others: tuple[Array, ...],
) -> list[Explanation | Explaining | None]:
    alike: dict[tuple[str, str, tuple[tuple[str, float], ...]], list[int]] = defaultdict(list)
    answers: list[Explanation | Explaining | None] = [None] * len(questions)
    asked = {row: question for row, question in enumerate(questions) if question is not None}
    for row, question in asked.items():
        method = METHODS[question.method]
        if isinstance(method, Batched):
            alike[question.method, question.layer, tuple(sorted(question.options.items()))].append(row)
        elif isinstance(method, Iterative):
            cut = network.cut_at(question.layer)
            own = _frontier_at(network, cut, (images, *others), frontier, [row])
            aims = [objectives([target], scores) for target in question.targets]
            subject = Subject(network, cut, images[row : row + 1], own, aims, chunk, _rows(others, [row]))
            answers[row] = _iterative(subject, method, question)
    room = chunk
    for (name, layer, _), rows in alike.items():
        cut, method = network.cut_at(layer), METHODS[name]
        assert isinstance(method, Batched)
        targets = [target for row in rows for target in asked[row].targets]
        early = network.is_early(cut)
        if early and len(targets) > room:
            for row in rows:
                inputs = _rows((images, *others), [row])
                answers[row] = _in_steps(method, cut, inputs, scores, asked[row], chunk, objectives)
            continue
        room -= len(targets) if early else 0
        places = [place for place, row in enumerate(rows) for _ in asked[row].targets]
        repeated = _frontier_at(network, cut, (images, *others), frontier, rows).rows(places)
        beside = _rows(others, [rows[place] for place in places])
        maps = _maps(method, cut, repeated, beside, targets, scores, asked[rows[0]].options, objectives)
        ends = [*accumulate(len(asked[row].targets) for row in rows)]
        for row, start, end in zip(rows, [0, *ends], ends, strict=False):
            answers[row] = Explanation(cut.layer.name, asked[row].targets, maps[start:end])
    return answers


def _maps(
    method: Batched,
    cut: Cut,
    frontier: Frontier,
    others: tuple[Array, ...],
    targets: Sequence[Target],
    scores: Array,
    options: Mapping[str, float],
    objectives: Objectives,
) -> Array:
    """Maps (M, h, w), on the CPU, of M rows with a target each, those of one kind together."""
    alike: dict[str, list[int]] = defaultdict(list)
    for place, target in enumerate(targets):
        alike[target.kind].append(place)
    if len(alike) == 1:
        return on_host(row_maps(method, cut, frontier, objectives(targets, scores), options, others))
    maps = [
        on_host(row_maps(method, cut, frontier.rows(places), aims, options, _rows(others, places)))
        for places in alike.values()
        for aims in [objectives([targets[place] for place in places], scores)]
    ]
    found = [place for places in alike.values() for place in places]
    return arrays(maps[0]).concatenate(maps)[sorted(range(len(found)), key=found.__getitem__)]


def row_maps(
    method: Batched,
    cut: Cut,
    frontier: Frontier,
    objective: Objective,
    given: Mapping[str, float],
    others: tuple[Array, ...] = (),
) -> Array:
    """Maps (M, h, w) of what crosses a cut in M rows, of which each is explained for its own part of the objective.

    Args:
        method: by which is explained.
        cut: of the network.
        frontier: M rows.
        objective: what they are explained for.
        given: the method's options.
        others: the network's other inputs, M rows each.

    Raises:
        UnsupportedMethod: the method can't explain the network at this cut, or nothing but classes.
    """
    if refused := refusal_at(method, cut):
        raise UnsupportedMethod(refused)
    options = method.complete(given)
    if method.objective is not None:
        if not isinstance(objective, Logit):
            raise UnsupportedMethod(method.classes_only)
        objective, options = method.objective(objective, **options), {}
    gradients = cut.head.gradients(frontier, objective, *others) if Need.LAYER_GRADIENT in method.needs else None
    maps: Array = method.maps(cut.layer.layout.to_grid(frontier.features), gradients, **options)
    return maps


def _in_steps(
    method: Batched,
    cut: Cut,
    inputs: tuple[Array, ...],
    scores: Array,
    question: Question,
    chunk: int,
    objectives: Objectives,
) -> Explaining:
    """A batched method at an early layer, for one image: a step is a forward and backward pass of ``chunk`` targets."""
    frontier = cut.frontier(*inputs)
    maps: list[Array] = []
    for first in range(0, len(question.targets), chunk):
        if maps:
            yield
        some = question.targets[first : first + chunk]
        repeated = frontier.rows([0] * len(some))
        beside = _rows(inputs[1:], [0] * len(some))
        maps.append(_maps(method, cut, repeated, beside, some, scores, question.options, objectives))
    return Explanation(cut.layer.name, question.targets, arrays(maps[0]).concatenate(maps))


def _iterative(subject: Subject, method: Iterative, question: Question) -> Explaining:
    maps = yield from method.steps(subject, **method.complete(question.options))
    if maps.ndim == 4:
        maps = arrays(maps).moveaxis(maps, 1, 3)
    layer = INPUT if method.of_input else subject.cut.layer.name
    return Explanation(layer, question.targets, on_host(maps))


def _frontier_at(
    network: Network, cut: Cut, inputs: tuple[Array, ...], frontier: Frontier, rows: list[int]
) -> Frontier:
    """What crosses the cut at a layer, of some rows; at the default layer it is there already."""
    if not network.is_early(cut):
        return frontier.rows(rows)
    return cut.frontier(*_rows(inputs, rows))


def _rows(inputs: tuple[Array, ...], rows: list[int]) -> tuple[Array, ...]:
    return tuple(values[rows] for values in inputs)
