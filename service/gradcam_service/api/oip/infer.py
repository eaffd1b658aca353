"""One request to a model, from its tensors to those of its answer; what carries it asks the domain in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic_core import to_json

from gradcam_service.api.oip.faces import ANY, PREDICTION, SCORES, TARGET, Faced, check_outputs
from gradcam_service.api.oip.messages import InferRequest, InferResponse, Wanted
from gradcam_service.api.oip.reading import call_of
from gradcam_service.api.oip.tensors import BYTES, Tensor
from gradcam_service.core.options import Call, ExplainOptions, PredictOptions
from gradcam_service.core.results import Answers, Explanation, Result
from gradcam_service.errors import BadRequest, NotOffered, ServiceError, from_code
from gradcam_service.registry.card import Card
from gradcam_service.settings import Settings
from gradcam_service.tasks.classification import probabilities

_CLASSIFICATION = "classification"


@dataclass(frozen=True, eq=False)
class Inference:
    """Request that has been read: what the domain is to be asked.

    Attributes:
        faced: the face that it is to.
        call: for `gradcam_service.core.pipeline.Pipeline.answer`.
        request: as it was read.
    """

    faced: Faced
    call: Call[PredictOptions] | Call[ExplainOptions]
    request: InferRequest


def read(request: InferRequest, faced: Faced, settings: Settings) -> Inference:
    """Read a request, which decodes base64 where pictures come in it: a long one wants to be read in a thread.

    Args:
        request: whatever carried it.
        faced: what it is to.
        settings: how many images and targets it may have.

    Raises:
        BadRequest, BadOption, TooLarge, TooManyTargets: it is not as it should be.
    """
    names = [one.name for one in request.outputs]
    check_outputs(names)
    for one in request.outputs:
        _check_classification(one)
    given = faced.face.outputs(faced.model.card)
    return Inference(faced, call_of(request, faced, names or given, settings), request)


def respond(inference: Inference, answers: Answers, given_id: str) -> InferResponse:
    """The answer to a request.

    Args:
        inference: what was asked.
        answers: of the domain.
        given_id: the request's, unless it has its caller's own.

    Raises:
        ServiceError: what is wrong with one of its images, since tensors can't have holes.
        NotOffered: scores are asked for, and are none of classes.
        BadRequest: its images have different numbers of targets.
        UnknownTarget: explanations are asked for, and the captions have no words.
    """
    results = [_sound(result, number, len(answers.results)) for number, result in enumerate(answers.results)]
    asked = inference.request
    wanted = asked.outputs or [Wanted(name) for name in inference.faced.face.outputs(answers.card)]
    _check_tensors(wanted, results, answers.card)
    outputs = [_output(one, results, answers.card) for one in wanted]
    explained = results[0].explanations[:1]
    said = {name: str(getattr(one, name)) for one in explained for name in ("method", "layer", "kind")}
    if warnings := dict.fromkeys(warning for result in results for warning in result.warnings):
        said["warnings"] = "; ".join(warnings)
    own_id = given_id if asked.id is None else asked.id
    return InferResponse(inference.faced.name, answers.model.version, own_id, outputs, said)


def _check_classification(wanted: Wanted) -> None:
    """Refuse to name the classes of what isn't scores, or fewer than one."""
    most = wanted.parameters.get(_CLASSIFICATION)
    if most is None:
        return
    if wanted.name != SCORES or type(most) is not int or most < 0:
        raise BadRequest(f"parameter 'classification' of output {wanted.name!r}: how many classes of {SCORES!r}")


def _check_tensors(wanted: Sequence[Wanted], results: Sequence[Result], card: Card) -> None:
    """Refuse what no tensor can hold."""
    if card.speaks and any(one.name == SCORES for one in wanted):
        raise NotOffered(
            f"a model of task {card.task} has no scores of classes; output {PREDICTION!r} has what it says"
        )
    counts = sorted({len(result.explanations) for result in results})
    if len(counts) > 1:
        told = " and ".join(map(str, counts))
        raise BadRequest(f"the images have {told} targets, where tensors hold as many of each; name them in {TARGET!r}")


def _sound(result: Result | ServiceError, number: int, count: int) -> Result:
    if isinstance(result, Result):
        return result
    raise from_code(result.code, f"image {number}: {result.detail}" if count > 1 else result.detail) from result


def _output(wanted: Wanted, results: Sequence[Result], card: Card) -> Tensor:
    """One output of all images: its first dimension is theirs, its second that of their targets, if there are several.

    Pictures have the second always.
    """
    if wanted.name == SCORES:
        scores = np.stack(
            [probabilities(card.of_classes(result.scores), card.activation) for result in results]
        ).astype(np.float32)
        most = wanted.parameters.get(_CLASSIFICATION)
        return _ranked(scores, card.labels, most) if most else Tensor(SCORES, "FP32", scores.shape, scores, "np")
    if wanted.name == PREDICTION:
        said = [to_json(result.told()) for result in results]
        return Tensor(PREDICTION, BYTES, (len(said), 1), said, "str")
    explained = [result.explained() for result in results]
    grid = (len(explained), len(explained[0]))
    outer = grid if grid[1] > 1 else grid[:1]
    each = [explanation for explanations in explained for explanation in explanations]
    if wanted.name == "map":
        maps = _stacked([explanation.map for explanation in each])
        maps = maps.reshape(*outer, *maps.shape[1:])
        return Tensor("map", "FP32", maps.shape, maps, "np")
    if wanted.name == TARGET:
        indices = np.array([getattr(explanation.target, "index", ANY) for explanation in each], np.int64)
        return Tensor(TARGET, "INT64", outer, indices.reshape(outer), "np")
    return Tensor(wanted.name, BYTES, grid, [_drawn(explanation, wanted.name) for explanation in each], "base64")


def _stacked(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps as one array; a single one as it is."""
    return maps[0][None] if len(maps) == 1 else np.stack(maps)


def _drawn(explanation: Explanation, name: str) -> bytes:
    drawn = explanation.overlay if name == "overlay" else explanation.heatmap
    assert drawn is not None
    return drawn.data


def _ranked(scores: np.ndarray, labels: Sequence[str], most: int) -> Tensor:
    """The classification extension: the best classes of each image, ``score:index:label`` as Triton writes them."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    said = [f"{scores[row, i]:f}:{i}:{labels[i]}".encode() for row, best in enumerate(order) for i in best]
    return Tensor(SCORES, BYTES, order.shape, said, "str")
