"""The Open Inference Protocol (V2) over REST, with Triton's extensions; its tensors and faces are in `api.oip`."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

import gradcam_service
from gradcam_service import metrics
from gradcam_service.api.bodies import parsed, whole_body
from gradcam_service.api.dialects import Dialect
from gradcam_service.api.dialects import _kserve as kserve
from gradcam_service.api.documentation import base64_photograph
from gradcam_service.api.inference import admit, answers, blamed
from gradcam_service.api.observe import observation
from gradcam_service.api.oip import models, rest
from gradcam_service.api.oip.faces import EXPLAINING, Faced, every, find
from gradcam_service.api.oip.infer import Inference, read, respond
from gradcam_service.api.oip.messages import Exchange
from gradcam_service.api.operations import require_ready
from gradcam_service.api.preference import by_preference
from gradcam_service.api.sending import sent
from gradcam_service.errors import BadRequest, NotOffered, NotReady, UnknownModel, shortened
from gradcam_service.registry.listing import Model

router = APIRouter()
probes = APIRouter()
management = APIRouter(tags=["management"])

_EXTENSIONS = [
    *("binary_tensor_data", "classification", "parameters", "model_configuration", "model_repository", "statistics")
]
_HEADER_LENGTH = "Inference-Header-Content-Length"
_LEVEL = 1
"""Of zlib: pictures don't get smaller, and maps hardly."""
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"


def _of_tensors() -> dict[str, Any]:
    """Keyword arguments of a route that reads tensors."""
    parameters = {"type": "object", "description": "options, of which texts, numbers and truth values count"}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "description": "`BYTES` of pictures' files, `UINT8` of pixels, `FP32` …"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "parameters": parameters,
            "data": {"type": "array", "items": {}, "description": "flat, or nested like the shape; pictures in base64"},
        },
        "required": ["name", "datatype", "shape"],
    }
    wanted = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "parameters": parameters},
        "required": ["name"],
    }
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": wanted, "description": "those wanted; without, all of the face"},
            "parameters": parameters,
        },
        "required": ["inputs"],
    }
    picture = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64_photograph()]}
    content = {"application/json": {"schema": schema, "example": {"inputs": [picture]}}}
    answered = {"application/json": {"schema": {"type": "object"}}}
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "responses": {
            200: {
                "description": "A tensor for each output, in JSON or as bytes behind it",
                "content": answered | binary,
            },
            **kserve.documented(400, 404, 408, 413, 415, 429, 500, 501, 503, 504, "4XX"),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


@probes.get("/v2", tags=["health"])
@probes.get("/v2/", include_in_schema=False)
async def server() -> dict[str, Any]:
    """What this server is, and which extensions of the Open Inference Protocol it has."""
    return {"name": "gradcam-service", "version": gradcam_service.__version__, "extensions": _EXTENSIONS}


@probes.get("/v2/health/live", tags=["health"])
async def live() -> dict[str, bool]:
    """Whether this process runs."""
    return {"live": True}


@probes.get("/v2/health/ready", tags=["health"], responses=kserve.documented(503))
async def ready(request: Request) -> dict[str, bool]:
    """Whether requests will be answered now."""
    require_ready(request)
    return {"ready": True, "live": True}


@probes.get(f"{_MODEL}/ready", tags=["health"], responses=kserve.documented(404, 503, "4XX"))
@probes.get(f"{_VERSION}/ready", include_in_schema=False)
async def model_ready(request: Request, name: str) -> dict[str, Any]:
    """Whether a model, or a face of one, answers."""
    try:
        found = _faced(request)
    except UnknownModel:  # which would tell whoever asks what there is
        raise UnknownModel(f"there is no model {shortened(name)!r}, or no such version of it") from None
    require_ready(request)
    if not found.model.available:
        raise NotReady(f"model {name} is not ready: it is {found.model.state}")
    return {"name": name, "ready": True}


@router.get("/v2/models", tags=["models"])
async def listing(request: Request) -> dict[str, list[str]]:
    """The names of all models, and of their faces."""
    return {"models": [name for name, *_ in every(_models(request))]}


@router.get("/v2/models/stats", tags=["models"])
async def all_statistics(request: Request) -> dict[str, Any]:
    """What has been asked of each model since the start, over all of its versions and faces and all protocols."""
    return models.statistics(metrics.families(), models.each(_models(request)))


@router.get(_MODEL, tags=["models"], responses=kserve.documented(404, "4XX"))
@router.get(_VERSION, include_in_schema=False)
async def metadata(request: Request, name: str) -> dict[str, Any]:
    """A model's inputs and outputs, or those of a face of it."""
    return models.metadata(_faced(request))


@router.get(f"{_MODEL}/config", tags=["models"], responses=kserve.documented(404, "4XX"))
@router.get(f"{_VERSION}/config", include_in_schema=False)
async def config(request: Request, name: str) -> dict[str, Any]:
    """The same as Triton's ModelConfig."""
    return models.config(_faced(request), request.app.state.settings.most_images)


@router.get(f"{_MODEL}/stats", tags=["models"], responses=kserve.documented(404, "4XX"))
@router.get(f"{_VERSION}/stats", include_in_schema=False)
async def statistics(request: Request, name: str) -> dict[str, Any]:
    """What has been asked of a model since the start, over all of its versions and faces and all protocols."""
    return models.statistics(metrics.families(), [_faced(request)])


@router.post(f"{_MODEL}/infer", tags=["inference"], **_of_tensors())
@router.post(f"{_VERSION}/infer", include_in_schema=False, tags=["inference"])
async def infer(request: Request, name: str) -> Response:
    """What a model, or a face of one, says to tensors: scores, heatmaps, overlays, maps and what they are of."""
    return await _infer(request, _faced(request))


@router.post(f"{_MODEL}/explain", include_in_schema=False, tags=["inference"])
@router.post(f"{_VERSION}/explain", include_in_schema=False, tags=["inference"])
async def explain(request: Request, name: str) -> Response:
    """The same of the face that explains, where TorchServe has it."""
    return await _infer(request, replace(_faced(request), face=EXPLAINING))


@router.post("/v2/repository/index", tags=["models"], responses=kserve.documented("4XX"))
async def index(request: Request) -> list[dict[str, Any]]:
    """Every version of every model and of its faces, and its state."""
    wanted = await _members(request)
    return models.index(_models(request), ready=wanted.get("ready") is True)


@management.post("/v2/repository/models/{name}/{action}", responses=kserve.documented(401, 404, 501, 503, "4XX"))
async def manage(request: Request, name: str, action: Literal["load", "unload"]) -> dict[str, Any]:
    """Load a model, or forget it. Needs the admin token."""
    parameters = (await _members(request)).get("parameters")
    if isinstance(parameters, dict) and any(key == "config" or key.startswith("file:") for key in parameters):
        raise NotOffered("a model is loaded as its repository has it; its files can't be sent")
    workers, deadline = request.app.state.workers, monotonic() + request.app.state.settings.timeout_ms / 1e3
    if action == "load":
        await workers.rescan(deadline)
        model = _faced(request).model
        await workers.load(model.key, deadline, again=model.state == "failed")
    else:
        await workers.unload(_faced(request).model.key, deadline)
    return {"name": name, action: True}


@router.post("/v2/repository/models/{name}/{action}", include_in_schema=False)
async def not_managed() -> None:
    """Where no admin token is set, nobody can show it."""
    raise NotOffered("models are loaded and unloaded by callers where GRADCAM_ADMIN_TOKEN is set")


@router.get("/v2/systemsharedmemory/status", include_in_schema=False)
@router.get("/v2/cudasharedmemory/status", include_in_schema=False)
async def shared_memory() -> list[Any]:
    """No region is ever registered."""
    return []


@router.api_route("/v2/systemsharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/cudasharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route(f"{_MODEL}/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/logging", methods=["GET", "POST"], include_in_schema=False)
async def not_offered(request: Request) -> None:
    """What else Triton has."""
    raise NotOffered(f"{request.scope['path']} is not offered here; GET /v2 lists the extensions that are")


def _models(request: Request) -> list[Model]:
    found: list[Model] = request.app.state.workers.models()
    return found


def _faced(request: Request) -> Faced:
    """The face that a path names."""
    return find(_models(request), request.path_params["name"], request.path_params.get("version", ""))


async def _infer(request: Request, faced: Faced) -> Response:
    admission = admit(request)
    start = perf_counter()
    settings, length = request.app.state.settings, _header_length(request)
    exchange: Exchange | None = request.scope.get("exchange")

    def reading(body: bytes) -> Inference:
        if exchange is not None:
            return read(exchange.read(), faced, settings)
        return read(rest.read_raw(body, faced) if length == 0 else rest.read(body, length), faced, settings)

    inference = await parsed(request, reading, settings, admission)
    answered = await answers(request, inference.call, admission, perf_counter() - start)
    with blamed(request, inference.call.options):  # one image that has no answer leaves all without
        said = respond(inference, answered, observation(request).request_id)
    if exchange is not None:
        exchange.answer = said
        return Response()
    return _response(rest.write(said, inference.request), _coding(request))


def _header_length(request: Request) -> int | None:
    """How many bytes of a body are JSON, as its head says; None for all of them."""
    given = request.headers.get(_HEADER_LENGTH)
    if given is None:
        return None
    if not given.isdecimal() or len(given) > len(str(2**63)):
        raise BadRequest(f"{_HEADER_LENGTH} is to be the number of bytes of JSON that the body begins with")
    return int(given)


def _coding(request: Request) -> str | None:
    """How an answer is to be compressed, for who asks for one coding alone; several are what libraries always send."""
    wanted = by_preference(", ".join(request.headers.getlist("accept-encoding")))
    named = [coding for coding in wanted if coding != "identity"]
    return named[0] if len(named) == 1 and named[0] in _WINDOWS else None


def _response(written: rest.Written, coding: str | None) -> Response:
    """An answer as a response; a long one is written while it is sent."""
    headers, media_type = {"Vary": "Accept-Encoding"}, "application/json"
    if written.header_length is not None:
        headers[_HEADER_LENGTH], media_type = str(written.header_length), "application/octet-stream"
    if coding is not None:
        headers["Content-Encoding"] = coding
        return StreamingResponse(_compressed(written.pieces, coding), headers=headers, media_type=media_type)
    if written.header_length is not None:
        headers["Content-Length"] = str(written.size)
    return sent(written.pieces, written.size, media_type, headers)


def _compressed(pieces: Iterable[rest.Piece], coding: str) -> Iterator[bytes]:
    compress = zlib.compressobj(_LEVEL, wbits=_WINDOWS[coding])
    for piece in pieces:
        if done := compress.compress(piece):
            yield done
    yield compress.flush()


async def _members(request: Request) -> Mapping[str, Any]:
    """The members of a short body, which may be empty."""
    settings, pipeline = request.app.state.settings, request.app.state.pipeline
    with pipeline.capacity.admit(images=0) as admission:
        body = await whole_body(request, settings, admission)
    try:
        return msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON object: {error}") from None


DIALECT = Dialect(router, ("/v2",), kserve.write, probes, kserve.documented, management)
