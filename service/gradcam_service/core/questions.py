"""Questions to a model, as the options of a request put them; what it can't answer is refused before decoding."""

from __future__ import annotations

from collections.abc import Sequence

from gradcam_service.core.options import ExplainOptions, PredictOptions, check_target_count
from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.method import Iterative
from gradcam_service.explain.methods import COMPARED, DEFAULT, METHODS
from gradcam_service.question import Measure, Question
from gradcam_service.registry.card import Card
from gradcam_service.targets import TARGETS, Target, read
from gradcam_service.tasks import beside
from gradcam_service.worker.client import Inputs


def question(options: PredictOptions, card: Card, most_targets: int) -> Question | None:
    """The question that the options put to a model; None where only a prediction is asked for.

    Raises:
        UnsupportedMethod, UnknownLayer, UnknownTarget, TooManyTargets, BadOption: the model can't be asked that.
    """
    if not isinstance(options, ExplainOptions):
        return None
    method = options.explained_by(card)
    card.check_question(method, options.layer, options.method_options)
    targets = options.target or []
    check_target_count(len(targets), most_targets)
    read_targets = tuple(read(target, card) for target in targets)
    measure = _measure(options, method, card) if options.quality else None
    _check_targets(method, read_targets, card)
    if measure and measure.against:
        _check_targets(measure.against, read_targets, card)
    return Question(method, options.layer, read_targets, options.method_options, measure)


def is_iterative(asked: Question) -> bool:
    """Whether a question takes passes of its own, in chunks: for its method, or to measure its maps."""
    return asked.measure is not None or isinstance(METHODS[asked.method], Iterative)


def inputs_beside(options: PredictOptions, card: Card) -> Inputs:
    """The model's inputs beside the image, of the texts and numbers that the options give."""
    return beside(card.task, card.text, options.texts, options.numbers)


def _measure(options: ExplainOptions, method: str, card: Card) -> Measure:
    """What is to be measured of a method's maps: compared with the other that is named, or with one that there is.

    Raises:
        UnsupportedMethod: the model can't be explained by the one that is named.
    """
    if options.quality_against is not None:
        card.check_question(options.quality_against, options.layer, {})
        return Measure(options.quality_steps, options.quality_against)
    others = (name for name in COMPARED if name != method and name in card.method_names())
    return Measure(options.quality_steps, next(others, ""))


def _check_targets(method: str, targets: Sequence[Target], card: Card) -> None:
    """Refuse what the method can't explain.

    Raises:
        UnsupportedMethod: saying why, and what can.
    """
    if reason := METHODS[method].classes_only:
        for target in targets:
            kind = TARGETS[target.kind]
            if not kind.is_logit:
                raise UnsupportedMethod(
                    f"{method} can't explain {kind.name(target.value, card)}: {reason}; {DEFAULT} can"
                )
