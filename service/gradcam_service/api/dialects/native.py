"""``/predict`` and ``/explain``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from time import perf_counter
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gradcam_service.api import documentation, problems
from gradcam_service.api.accept import for_one_picture, wants_picture
from gradcam_service.api.bodies import Call, read_call
from gradcam_service.api.observe import observation
from gradcam_service.api.pipeline import Answered, Pipeline
from gradcam_service.api.schemas import (
    AnsweringModel,
    ExplainOptions,
    ExplainResponse,
    ExplainResult,
    PredictOptions,
    PredictResponse,
    PredictResult,
)
from gradcam_service.errors import ClientLeft, ServiceError
from gradcam_service.registry.spec import Card, Model

Answer = TypeVar("Answer")

router = APIRouter(tags=["inference"])


@router.post("/predict", response_model=PredictResponse, **documentation.inference(PredictOptions, {"top_k": 3}))
async def predict(request: Request) -> Response:
    """What the model sees: the most probable classes of one or several images."""
    request.app.state.pipeline.require_room()
    start = perf_counter()
    call = await read_call(request, PredictOptions, request.app.state.settings)
    model, results = await _answers(request, call, perf_counter() - start)
    request_id = observation(request).request_id
    bodies = [
        PredictResult(error=problems.problem(result, request_id))
        if isinstance(result, ServiceError)
        else PredictResult(predictions=result.predictions)
        for result in results
    ]
    return _json(PredictResponse(request_id=request_id, model=model, results=bodies))


@router.post(
    "/explain",
    response_model=ExplainResponse,
    **documentation.inference(
        ExplainOptions,
        {"target": ["star", "flower"], "output": ["heatmap", "overlay"]},
        pictures=("image/png", "image/jpeg", "image/webp"),
    ),
)
async def explain(request: Request) -> Response:
    """Where the model looks: heatmaps of one or several targets in one or several images.

    With one image, one target and one picture asked for, `Accept: image/png`, `image/jpeg` or `image/webp` returns the
    picture itself.
    """
    request.app.state.pipeline.require_room()
    start = perf_counter()
    call = await read_call(request, ExplainOptions, request.app.state.settings)
    picture = wants_picture(request.headers.get("accept", "*/*"), call.options.output)
    if picture:
        call = for_one_picture(call, picture)
    model, results = await _answers(request, call, perf_counter() - start)
    if picture:
        return _picture(results[0])
    request_id = observation(request).request_id
    bodies = [
        ExplainResult(error=problems.problem(result, request_id))
        if isinstance(result, ServiceError)
        else ExplainResult(predictions=result.predictions, explanations=result.explanations)
        for result in results
    ]
    return _json(ExplainResponse(request_id=request_id, model=model, results=bodies))


async def _answers(
    request: Request, call: Call[PredictOptions] | Call[ExplainOptions], seconds_reading: float
) -> tuple[AnsweringModel, list[Answered | ServiceError]]:
    """Each image's answer or error.

    Raises:
        ServiceError: what is wrong with the whole call, or with the first image if nothing could be answered.
    """
    read = perf_counter()
    pipeline: Pipeline = request.app.state.pipeline
    seen = observation(request)
    model, card, results = await _unless_client_leaves(request, pipeline.answer(call, seen))
    seen.record("read", seconds_reading, read)
    if isinstance(results[0], ServiceError) and all(isinstance(result, ServiceError) for result in results):
        raise results[0]
    return _answering(model, card), results


async def _unless_client_leaves(request: Request, answer: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer; it is given up when nobody waits for it any more.

    Raises:
        ClientLeft: the connection was closed.
    """
    # The body has been read, so that all that can still be received is that the client has left.
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientLeft("the connection was closed before the answer was there")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


def _answering(model: Model, card: Card) -> AnsweringModel:
    return AnsweringModel(name=model.name, version=model.version, digest=card.digest, weights=card.weights)


def _picture(result: Answered | ServiceError) -> Response:
    assert isinstance(result, Answered)
    (explanation,) = result.explanations
    drawn = explanation.heatmap or explanation.overlay
    assert drawn is not None
    return Response(base64.b64decode(drawn.data), media_type=drawn.media_type)


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")
