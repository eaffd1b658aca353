"""TorchServe's inference API: ``/predictions``, ``/explanations``, ``/ping``; and SageMaker's ``/invocations``.

Other than there, what is explained is the most probable class where no target is named, each picture's own target in a
batch, and a class that the model doesn't have is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from time import perf_counter
from typing import Any, Generic, Literal, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic_core import to_json

from gradcam_service.api.accept import for_one_picture, wants_picture
from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.dialects._torchserve_bodies import Sent, read_body
from gradcam_service.api.documentation import Responses, faults
from gradcam_service.api.inference import admit, reference
from gradcam_service.api.instances import Instance, answers_each, read
from gradcam_service.api.observe import observation
from gradcam_service.api.operations import require_ready
from gradcam_service.api.problems import fault
from gradcam_service.api.request_options import gathered, only_model, tolerated
from gradcam_service.api.results import one_picture, response
from gradcam_service.api.sending import sent
from gradcam_service.core.admission import Admission
from gradcam_service.core.options import Call, ExplainOptions, Options, PredictOptions
from gradcam_service.core.render import at_input_size
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import BadOption, NotReady, ServiceError
from gradcam_service.registry.card import Card
from gradcam_service.tasks import TASKS, Task

router = APIRouter(tags=["inference"])
probes = APIRouter(tags=["health"])

_METHODS = ["POST", "PUT"]
"""Of one route each: the first that a path has tells which there are. OpenAPI shows another, of POST alone."""
_OWN = "json"
"""The ``output`` that is answered in the service's own words."""
_OTHERWISE = f"output={_OWN}"
_TEXT = 20
"""Characters of a map's number."""
_KINDS = {401: "InvalidKeyException", 405: "MethodNotAllowedException", 408: "RequestTimeoutException"}
_KINDS |= {500: "InternalServerException", 503: "ServiceUnavailableException", 504: "RequestTimeoutException"}
"""What TorchServe calls a fault, by its status; what isn't here is the caller's."""
_KINDS_OF_404 = {"unknown_model": "ModelNotFoundException", "no_such_path": "ResourceNotFoundException"}


class Error(BaseModel):
    """What was wrong and what would work."""

    code: int
    type: str
    message: str


class Ping(BaseModel):
    """Whether requests are answered now."""

    status: Literal["Healthy", "Unhealthy"]


class _Asked(NamedTuple, Generic[Options]):
    """Request, as it has been read.

    Attributes:
        instances: a picture each.
        options: of all.
        in_envelope: whether answers go into TorchServe's envelope.
        in_own_words: whether they are to be as those of ``/explain``.
    """

    instances: Sequence[Instance[Options]]
    options: Options
    in_envelope: bool
    in_own_words: bool


def documented(*statuses: int | str) -> Responses:
    """OpenAPI responses that tell of faults."""
    return faults(Error, *statuses)


def _of_file(pictures: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of a route that reads a picture as it is, or one of a form.

    Args:
        pictures: media types that it can answer with besides JSON.
    """
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"data": binary}, "required": ["data"]}
    content = {
        "application/octet-stream": {"schema": binary},
        "image/jpeg": {"schema": binary},
        "multipart/form-data": {"schema": form},
    }
    answers = {media_type: {"schema": binary} for media_type in pictures}
    return {
        "responses": {
            200: {"description": "The answer", "content": answers},
            **documented(400, 404, 408, 413, 415, 500, 503, 504),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


@router.post("/predictions/{name}", response_model=dict[str, Any] | list[Any], **_of_file())
@router.api_route("/predictions/{name}/{version}", methods=_METHODS, include_in_schema=False)
@router.api_route("/predictions/{name}", methods=_METHODS, include_in_schema=False)
async def predictions(request: Request, name: str) -> Response:
    """What a model sees, as TorchServe tells it: the five most probable classes and their probabilities."""
    return await _predicted(request, reference(request))


@router.api_route("/invocations", methods=_METHODS, include_in_schema=False)
async def invocations(request: Request) -> Response:
    """The same at the path that SageMaker knows, where the model may go unnamed."""
    return await _predicted(request, only_model(*request.query_params.getlist("model_name")))


@router.post(
    "/explanations/{name}",
    response_model=dict[str, Any] | list[Any],
    **_of_file(("image/png", "image/jpeg", "image/webp")),
)
@router.api_route("/explanations/{name}/{version}", methods=_METHODS, include_in_schema=False)
@router.api_route("/explanations/{name}", methods=_METHODS, include_in_schema=False)
async def explanations(request: Request, name: str) -> Response:
    """Where a model looks, as nested numbers: the map at the size of the model's input.

    `Accept: image/*` or `output=overlay` returns the picture, `output=json` what `/explain` answers; other options are
    those of `/explain`, in the query string or in form fields.
    """
    admission = admit(request)
    start = perf_counter()
    given = await _asked(request, ExplainOptions, reference(request), admission)
    picture = _picture_wanted(request, given)
    asked = _for_picture(given, picture) if picture else _for_numbers(given)
    answered = await answers_each(request, asked.instances, asked.options, admission, perf_counter() - start)
    if picture:
        return one_picture(answered, _OTHERWISE)
    if asked.in_own_words:
        return response(answered, observation(request).request_id, asked.options.outputs)
    count = sum(len(result.explanations) for result in answered.results if isinstance(result, Result))
    size = count * math.prod(answered.card.preprocess.input_size) * _TEXT
    return sent(_written(request, asked, answered, partial(_maps, card=answered.card), b"explanations"), size)


@probes.get("/ping", responses={500: {"model": Ping, "description": "requests are not answered now"}})
async def ping(request: Request, response: Response) -> Ping:
    """Whether requests are answered now."""
    try:
        require_ready(request)
    except NotReady:
        response.status_code = 500
        return Ping(status="Unhealthy")
    return Ping(status="Healthy")


def write(fault: Fault) -> Response:
    """A fault as TorchServe tells of it; a full queue is no 429 there."""
    body = _body(fault)
    return JSONResponse(body.model_dump(), body.code, dict(fault.headers))


def _body(fault: Fault) -> Error:
    status = {422: 400, 429: 503}.get(fault.status, fault.status)
    kind = _KINDS_OF_404.get(fault.code) or _KINDS.get(status, "BadRequestException")
    return Error(code=status, type=kind, message=f"{fault.code}: {fault.detail}")


async def _predicted(request: Request, model: str | None) -> Response:
    admission = admit(request)
    start = perf_counter()
    asked = await _asked(request, PredictOptions, model, admission)
    answered = await answers_each(request, asked.instances, asked.options, admission, perf_counter() - start)
    told = partial(_told, card=answered.card)
    return Response(b"".join(_written(request, asked, answered, told, b"predictions")), media_type="application/json")


async def _asked(request: Request, kind: type[Options], model: str | None, admission: Admission) -> _Asked[Options]:
    """What is asked; an instance's own options count more than a form's, and these more than the query's."""
    query, most = gathered(request.query_params.multi_items()), request.app.state.settings.max_targets

    def asked(sent: Sent) -> _Asked[Options]:
        given = query | {name: value for name, value in sent.fields.items() if value is not None}
        output = given.pop("output", None) or []
        outputs = output if isinstance(output, list) else [output]
        named = only_model(model, query.get("model"), sent.fields.get("model"))
        own = {"model": named, "output": [name for name in outputs if name != _OWN] or None}
        options = tolerated(kind, given | own, most_targets=most)
        instances = [read(row, f"picture {number}", options, most) for number, row in enumerate(sent.rows)]
        return _Asked(instances, options, sent.in_envelope, _OWN in outputs)

    return await read_body(request, asked, admission)


def _picture_wanted(request: Request, asked: _Asked[ExplainOptions]) -> str | None:
    """The type of the picture that is to be the answer, if one is."""
    if asked.in_own_words:
        return None
    output = asked.options.output
    accepted = wants_picture(", ".join(request.headers.getlist("accept")) or "*/*", output)
    return accepted or ("image/*" if output in (["heatmap"], ["overlay"]) else None)


def _for_picture(asked: _Asked[ExplainOptions], media_type: str) -> _Asked[ExplainOptions]:
    """What is to be asked for one picture.

    Raises:
        BadOption: there are several, or none of that type.
    """
    call = Call([each.image for each in asked.instances], asked.instances[0].options)
    options = for_one_picture(call, media_type, otherwise=_OTHERWISE).options
    return asked._replace(instances=[replace(asked.instances[0], options=options)], options=options)


def _for_numbers(asked: _Asked[ExplainOptions]) -> _Asked[ExplainOptions]:
    """What is to be asked for maps, of which nothing is drawn; or for what the caller wants in the service's own words.

    Raises:
        BadOption: several pictures are wanted.
    """
    output = asked.options.output if asked.in_own_words else ["map"]
    if not asked.in_own_words and asked.options.output not in (None, output):
        raise BadOption("one output is answered alone; of several, output=json has all, as /explain answers")
    update = {"output": output}
    options = asked.options.model_copy(update=update)

    def alike(each: Instance[ExplainOptions]) -> Instance[ExplainOptions]:
        if each.options is asked.options:
            return replace(each, options=options)
        if each.options.output not in (asked.options.output, output):
            return replace(each, error=each.error or BadOption("output is an option of all instances, not of one"))
        return replace(each, options=each.options.model_copy(update=update))

    return asked._replace(instances=[alike(each) for each in asked.instances], options=options)


def _written(
    request: Request,
    asked: _Asked[Any],
    answered: Answers,
    entry: Callable[[Result], Iterator[bytes]],
    member: bytes,
) -> Iterator[bytes]:
    """An answer as JSON: one entry, or in an envelope or of several pictures a list of them."""
    alone = len(answered.results) == 1 and not asked.in_envelope
    yield b"" if alone else b'{"%b":[' % member if asked.in_envelope else b"["
    for number, result in enumerate(answered.results):
        yield b"," * (number > 0)
        if isinstance(result, ServiceError):
            yield to_json({"error": _body(fault(result, observation(request).request_id))})
        else:
            yield from entry(result)
    yield b"" if alone else b"]}" if asked.in_envelope else b"]"


def _told(result: Result, card: Card) -> Iterator[bytes]:
    """What a model says, as JSON."""
    yield to_json(_probabilities(result, TASKS[card.task]))


def _probabilities(result: Result, task: Task) -> object:
    """Label → probability or value, where a picture alone is asked about and nothing but these is told; else all."""
    if task.text is not None or [each.name for each in fields(task.prediction)] != [task.entries.member]:
        return result.told()
    named: dict[str, float] = {}
    for each in task.entries.of(result.prediction):
        name = each.label if each.label not in named else f"{each.label} ({each.index})"
        named[name] = each.value if task.entries.values else each.probability
    return named


def _maps(result: Result, card: Card) -> Iterator[bytes]:
    """The map of the one target as JSON, or a list of those of several."""
    several = len(result.explanations) != 1  # of a caption without words, none
    yield b"[" * several
    for number, explanation in enumerate(result.explanations):
        yield b"," * (number > 0)
        yield to_json(at_input_size(explanation, card).tolist())
    yield b"]" * several


DIALECT = Dialect(router, ("/predictions", "/explanations", "/invocations", "/ping"), write, probes, documented)
