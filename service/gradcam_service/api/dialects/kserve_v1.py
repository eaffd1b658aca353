"""KServe's first protocol, which TensorFlow Serving and Vertex AI speak too: ``:predict`` and ``:explain``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from gradcam_service.api.bodies import parsed
from gradcam_service.api.dialects import Dialect
from gradcam_service.api.dialects import _kserve as kserve
from gradcam_service.api.documentation import base64_photograph
from gradcam_service.api.inference import admit, reference
from gradcam_service.api.instances import Instance, answers_each, parameters_of, read, rows_of
from gradcam_service.api.json_text import members_of
from gradcam_service.api.operations import require_ready
from gradcam_service.api.request_options import gathered, only_model, tolerated
from gradcam_service.api.results import result_json, streamed
from gradcam_service.core.options import ExplainOptions, Options, PredictOptions
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import NotOffered, NotReady, ServiceError, UnknownModel, shortened
from gradcam_service.registry.listing import resolve
from gradcam_service.settings import Settings
from gradcam_service.tasks.classification import probabilities

router = APIRouter()
probes = APIRouter(tags=["health"])


class Predictions(BaseModel):
    """An entry for each instance, in order."""

    predictions: list[list[float] | dict[str, Any]] = Field(
        description="probabilities of all classes, of a regressor its values; where `top_k` is given or a model says "
        "something else, a result of `/predict`; `error` of an instance that has no answer, where others have"
    )
    warnings: list[list[str]] | None = Field(
        None, description="where there are any: sentences about each instance, as probabilities have no place for them"
    )


class Explanations(Predictions):
    """An entry for each instance in both, in order."""

    explanations: list[dict[str, Any]] = Field(description="results of `/explain`, or `error`")


class _Asked(NamedTuple):
    """What a body holds: the instances, the options of all, and the member that answers are written to."""

    instances: list[Instance[Any]]
    options: PredictOptions
    member: str


def _of_instances() -> dict[str, Any]:
    """Keyword arguments of a route that reads instances."""
    instance = {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {}}]}
    schema = {
        "type": "object",
        "properties": {
            "instances": {
                "type": "array",
                "items": instance,
                "minItems": 1,
                "description": 'a picture each: base64, `{"b64": …}`, either as the member of an object beside its own '
                "options, or nested integers from 0 to 255",
            },
            "parameters": {"type": "object", "description": "options of all instances"},
        },
        "required": ["instances"],
    }
    one = {"instances": [{"image": {"b64": base64_photograph()}}]}
    own = {"instances": [{"image": {"b64": base64_photograph()}, "top_k": 1}], "parameters": {"timeout_ms": 20_000}}
    examples = {"one instance": {"value": one}, "with options": {"value": own}}
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {
        "responses": kserve.documented(400, 404, 408, 413, 415, 429, 500, 503, 504, "4XX"),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


@router.post(
    "/v1/models/{name}:predict",
    response_model=Predictions,
    tags=["inference"],
    **_of_instances(),
)
@router.post("/v1/models/{name}/versions/{version}:predict", include_in_schema=False, tags=["inference"])
@router.post("/v1/models/{name}/labels/{version}:predict", include_in_schema=False, tags=["inference"])
async def predict(request: Request, name: str) -> Response:
    """What a model sees in each instance, as KServe's V1 protocol and TensorFlow Serving ask."""
    asked, answered = await _answered(request, PredictOptions)
    return streamed(_written(asked, answered, explain=False), answered)


@router.post(
    "/v1/models/{name}:explain",
    response_model=Explanations,
    tags=["inference"],
    **_of_instances(),
)
@router.post("/v1/models/{name}/versions/{version}:explain", include_in_schema=False, tags=["inference"])
@router.post("/v1/models/{name}/labels/{version}:explain", include_in_schema=False, tags=["inference"])
async def explain(request: Request, name: str) -> Response:
    """Where a model looks in each instance, as KServe's V1 protocol asks; options are those of `/explain`."""
    asked, answered = await _answered(request, ExplainOptions)
    return streamed(_written(asked, answered, explain=True), answered)


@router.post("/v1/models/{name}:{verb}", include_in_schema=False)
@router.post("/v1/models/{name}/versions/{version}:{verb}", include_in_schema=False)
@router.post("/v1/models/{name}/labels/{version}:{verb}", include_in_schema=False)
async def not_offered(verb: str) -> None:
    """What else TensorFlow Serving has, as ``:classify``."""
    raise NotOffered(f":{shortened(verb)} is not offered here; :predict and :explain are")


@router.get("/v1/models/{name}/metadata", include_in_schema=False)
@router.get("/v1/models/{name}/versions/{version}/metadata", include_in_schema=False)
@router.get("/v1/models/{name}/labels/{version}/metadata", include_in_schema=False)
async def metadata() -> None:
    """TensorFlow Serving's signatures of a graph."""
    raise NotOffered("signatures are not offered here; GET /v2/models/{name} tells what a model takes and answers")


@router.get("/v1/models", tags=["models"])
async def models(request: Request) -> dict[str, list[str]]:
    """The names of all models."""
    return {"models": sorted({model.name for model in request.app.state.workers.models()})}


@probes.get("/v1/models/{name}", responses=kserve.documented(404, 503, "4XX"))
@probes.get("/v1/models/{name}/versions/{version}", include_in_schema=False)
@probes.get("/v1/models/{name}/labels/{version}", include_in_schema=False)
async def status(request: Request, name: str) -> dict[str, Any]:
    """Whether a model answers, as KServe and as TensorFlow Serving tell it; who has no key is told no other's name."""
    if ":" in request.scope["path"]:
        raise HTTPException(405, headers={"Allow": "POST"})
    models = request.app.state.workers.models()
    try:
        model = resolve(models, reference(request))
    except UnknownModel:
        name, _, version = reference(request).partition("@")
        there = any(model.name == name for model in models)
        lacks = f"has no version or alias {shortened(version)!r}" if there else "does not exist"
        raise UnknownModel(f"Model with name {name} {lacks}.") from None
    require_ready(request)
    if not model.available:
        raise NotReady(f"Model with name {name} is not ready.")
    served = {"version": model.version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"name": name, "ready": True, "model_version_status": [served]}


async def _answered(request: Request, options: type[PredictOptions]) -> tuple[_Asked, Answers]:
    """What was read of a request, and each instance's answer."""
    admission = admit(request)
    start = perf_counter()
    settings = request.app.state.settings
    query = gathered(request.query_params.multi_items())
    reading = partial(_read, kind=options, query=query, model=reference(request), settings=settings)
    asked = await parsed(request, reading, settings, admission)
    return asked, await answers_each(request, asked.instances, asked.options, admission, perf_counter() - start)


def _read(body: bytes, kind: type[Options], query: Mapping[str, object], model: str, settings: Settings) -> _Asked:
    """The instances of a body; their own options count more than ``parameters``, and these more than the query."""
    members = members_of(body, '{"instances": [{"image": {"b64": "<base64>"}}]}')
    parameters = parameters_of(members)
    path = {"model": only_model(model, query.get("model"), parameters.get("model"))}
    options = tolerated(kind, query, parameters, path, most_targets=settings.max_targets)
    rows, by_column = rows_of(members, settings.most_images)
    instances = [read(row, f"instance {number}", options, settings.max_targets) for number, row in enumerate(rows)]
    return _Asked(instances, options, "outputs" if by_column else "predictions")


def _written(asked: _Asked, answered: Answers, *, explain: bool) -> Iterator[bytes]:
    """`Predictions` or `Explanations` as JSON, an explanation at a time."""
    each = list(zip(answered.results, asked.instances, strict=True))
    said = [_prediction(result, instance, answered) for result, instance in each]
    yield b'{"%b":[%b]' % (asked.member.encode(), b",".join(said))
    if explain:
        yield b',"explanations":['
        for number, (result, instance) in enumerate(each):
            yield b"," * (number > 0)
            if isinstance(result, ServiceError):
                yield _error(result)
            else:
                yield from result_json(result, instance.options.outputs)
        yield b"]"
    warnings = [result.warnings if isinstance(result, Result) else () for result in answered.results]
    yield b',"warnings":%b}' % to_json(warnings) if any(warnings) else b"}"


def _prediction(result: Result | ServiceError, instance: Instance[Any], answered: Answers) -> bytes:
    """An instance's entry: the probabilities of all classes, which black-box explainers ask for by the thousand."""
    key = b"" if instance.key is None else b',"key":%b}' % instance.key
    if isinstance(result, ServiceError):
        said = _error(result)
    elif "top_k" in instance.options.model_fields_set or not answered.of_labels(result):
        said = b"".join(result_json(result))
    else:
        scores = probabilities(answered.card.of_classes(result.scores), answered.card.activation)
        if not key:
            return to_json(scores.tolist())
        said = to_json({"prediction": int(scores.argmax()), "scores": scores.tolist()})
    return said[:-1] + key if key else said


def _error(error: ServiceError) -> bytes:
    return to_json({"error": kserve.text(error.code, error.detail)})


DIALECT = Dialect(router, ("/v1",), kserve.write, probes, kserve.documented)
