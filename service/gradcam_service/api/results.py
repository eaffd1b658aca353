"""Results as JSON: the only place where base64 is made of what was computed here."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal, Union, get_type_hints

import numpy as np
from fastapi import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, create_model
from pydantic_core import to_json

from gradcam_service.api.problems import fault
from gradcam_service.api.schemas import AnsweringModel, Problem
from gradcam_service.api.sending import sent
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import BadOption, ServiceError
from gradcam_service.maps import MapKind
from gradcam_service.targets import TARGETS
from gradcam_service.tasks import TASKS


def _base64(data: object) -> object:
    return base64.b64encode(data).decode("ascii") if isinstance(data, bytes) else data


def _map(values: np.ndarray, info: ValidationInfo) -> object:
    """The map, where it was asked for."""
    if info.context is None or "map" not in info.context:
        return None
    return {"shape": list(values.shape), "data": _base64(values.astype("<f4").tobytes())}


def _described() -> tuple[type, ...]:
    """What answers tell of targets with, that of most members first: some clients take the first that fits."""
    return tuple(sorted((kind.described for kind in TARGETS.values()), key=lambda told: -len(fields(told))))


class PictureBody(BaseModel):
    """An encoded picture."""

    model_config = ConfigDict(from_attributes=True)

    media_type: str
    width: int
    height: int
    data: Annotated[str, BeforeValidator(_base64)] = Field(description="base64")


class MapBody(BaseModel):
    """The raw map, after the method's own ReLU, neither resized nor normalised.

    In logit units, but where the method says otherwise.
    """

    shape: list[int] = Field(description="h, w; or, of kind `signed_colour`, H, W and the number of the input's bands")
    dtype: Literal["float32"] = "float32"
    data: str = Field(description="base64 of little-endian values, row by row")


class QualityBody(BaseModel):
    """Measures of how far a map is to be trusted."""

    model_config = ConfigDict(from_attributes=True)

    deletion: float = Field(
        description="area under the curve of what is explained, after the activation, while the most important pixels "
        "are replaced by the mean colour: less is better"
    )
    insertion: float = Field(description="likewise, while they come back into a blurred picture: more is better")
    steps: int = Field(description="of each curve")
    against: str | None = Field(None, description="the method whose map this one is compared with")
    agreement: float | None = Field(
        None, description="rank correlation of the two maps, -1 to 1; none where one of them is the same everywhere"
    )


class ExplanationBody(BaseModel):
    """Explanation of one target: where the model looks for it."""

    model_config = ConfigDict(from_attributes=True)

    target: Union[_described()]  # type: ignore[valid-type]  # noqa: UP007
    method: str
    layer: str = Field(description="the layer explained; `input` of methods that no layer has a part in")
    region: tuple[float, float, float, float] = Field(
        description="x0, y0, x1, y1 of what the model saw, in the original's pixels; beyond the picture where it pads"
    )
    image_size: tuple[int, int] = Field(description="width and height of the original, turned upright, in pixels")
    max: float = Field(description="the map's maximum, logit units")
    peak: tuple[float, float] | None = Field(
        None,
        description="x, y of it in the original's pixels, the centre of its cell; beyond the picture where the model "
        "looks at its padding; none of an empty map",
    )
    empty: bool = Field(description="whether the map is zero everywhere: nothing speaks for this class")
    kind: MapKind = Field(
        description="what the map's values mean: `unsigned`, evidence from 0 on; `signed`, for and against, about 0; "
        "`signed_colour`, the same for each colour of the input"
    )
    scale: tuple[float, float] | None = Field(
        None,
        description="the map's values that the pictures' weakest and strongest colour stand for: a heatmap's levels 0 "
        "and 255, of a signed map 1 and 255",
    )
    heatmap: PictureBody | None = None
    overlay: PictureBody | None = None
    map: Annotated[MapBody | None, BeforeValidator(_map)] = None
    boxes: list[tuple[int, int, int, int]] | None = Field(
        None, description="x0, y0, x1, y1 around the largest hot area, in the original's pixels; x1, y1 exclusive"
    )
    quality: QualityBody | None = Field(None, description="how far the map is to be trusted, where asked for")


class _Result(BaseModel):
    error: Problem | None = Field(
        default=None, description="in a request of several images: what is wrong with this one"
    )
    warnings: list[str] | None = Field(
        default=None, description="why the model may see something else than was meant, such as a picture of 12 bits"
    )


def _of_tasks() -> dict[str, Any]:
    """The members that tasks add to a result: field → type and default, as `create_model` takes them."""
    hints: dict[str, list[Any]] = defaultdict(list)
    for task in TASKS.values():
        for name, hint in get_type_hints(task.prediction, include_extras=True).items():
            hints[name].append(hint)
    return {name: (Union[tuple(of)] | None, None) for name, of in hints.items()}  # noqa: UP007  of any number


PredictResult = create_model(
    "PredictResult",
    __base__=_Result,
    __doc__="What the model says about one image, or why there is no answer.",
    **_of_tasks(),
)
ExplainResult = create_model(
    "ExplainResult",
    __base__=PredictResult,
    __doc__="What the model says about one image and where it looks, or why there is no answer.",
    explanations=(list[ExplanationBody] | None, None),
)


class _Response(BaseModel):
    request_id: str
    model: AnsweringModel


class PredictResponse(_Response):
    """Answer of ``/predict``: one result for each image, in order."""

    results: list[PredictResult]


class ExplainResponse(_Response):
    """Answer of ``/explain``: one result for each image, in order."""

    results: list[ExplainResult]


def response(answers: Answers, request_id: str, explained: Sequence[str] | None = None) -> Response:
    """An answer as a response.

    Args:
        answers: what was computed.
        request_id: of the request that it answers.
        explained: what was to be returned of each explanation; None where only predictions were asked for.
    """
    return streamed(_written(answers, request_id, explained), answers)


def streamed(pieces: Iterator[bytes], answers: Answers) -> Response:
    """JSON that tells of explanations as a response."""
    return sent(pieces, _size(answers))


def _size(answers: Answers) -> int:
    """Bytes of all pictures and maps."""
    explanations = [each for result in answers.results if isinstance(result, Result) for each in result.explanations]
    pictures = [picture for each in explanations for picture in (each.heatmap, each.overlay) if picture]
    return sum(len(picture.data) for picture in pictures) + sum(each.map.nbytes for each in explanations)


def _written(answers: Answers, request_id: str, explained: Sequence[str] | None) -> Iterator[bytes]:
    """A `PredictResponse` or an `ExplainResponse` as JSON, an explanation at a time."""
    model, computed = answers.model, answers.computed
    answering = AnsweringModel(
        name=model.name,
        version=model.version,
        digest=computed.digest,
        weights=answers.card.weights,
        runtime=computed.runtime,
        precision=computed.precision,
    )
    yield b'{"request_id":%b,"model":%b,"results":[' % (to_json(request_id), to_json(answering))
    for number, result in enumerate(answers.results):
        yield b"," * (number > 0)
        if isinstance(result, ServiceError):
            yield b'{"error":%b}' % Problem.model_validate(fault(result, request_id)).model_dump_json().encode()
        else:
            yield from result_json(result, explained)
    yield b"]}"


def one_picture(answers: Answers, otherwise: str = "Accept: application/json") -> Response:
    """The only picture of an answer, as it is.

    Args:
        answers: of one image.
        otherwise: what would return any number of pictures.

    Raises:
        BadOption: several were drawn, of the words of a caption, where no target was named.
        UnknownTarget: none was, as the caption has no words.
    """
    (result,) = answers.results
    assert isinstance(result, Result)
    explanation, *others = result.explained()
    if others:
        raise BadOption(
            f"an answer that is a picture shows one target, and {len(result.explanations)} were explained, a caption's "
            f'words; target={{"word": 0}} would work, and {otherwise} returns any number'
        )
    drawn = explanation.heatmap or explanation.overlay
    assert drawn is not None
    return Response(drawn.data, media_type=drawn.media_type)


def result_json(result: Result, explained: Sequence[str] | None = None) -> Iterator[bytes]:
    """A `PredictResult` or an `ExplainResult` as JSON, an explanation at a time; ``explained`` as for `response`."""
    said = to_json(result.told())
    if result.warnings:
        said = said[:-1] + b',"warnings":%b}' % to_json(result.warnings)
    if explained is None:
        yield said
        return
    yield said[:-1] + b',"explanations":['
    for number, explanation in enumerate(result.explanations):
        body = ExplanationBody.model_validate(explanation, context=explained)
        yield b"," * (number > 0) + body.model_dump_json(exclude_none=True).encode()
    yield b"]}"
