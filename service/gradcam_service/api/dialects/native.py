"""The service's own protocol: ``/predict`` and ``/explain``, errors as problem documents (RFC 9457)."""

from __future__ import annotations

from time import perf_counter

from fastapi import APIRouter, Request, Response

from gradcam_service.api import documentation
from gradcam_service.api.accept import for_one_picture, wants_picture
from gradcam_service.api.bodies import read_call
from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.inference import admit, answers
from gradcam_service.api.observe import observation
from gradcam_service.api.results import ExplainResponse, PredictResponse, one_picture, response
from gradcam_service.api.schemas import Problem
from gradcam_service.core.options import ExplainOptions, PredictOptions

router = APIRouter(tags=["inference"])
"""PUT is answered as POST, for ``curl -T`` and its like."""


@router.put("/predict", include_in_schema=False)
@router.post("/predict", response_model=PredictResponse, **documentation.inference(PredictOptions, {"top_k": 3}))
async def predict(request: Request) -> Response:
    """What the model sees: the most probable classes of one or several images."""
    admission = admit(request)
    start = perf_counter()
    call = await read_call(request, PredictOptions, request.app.state.settings, admission)
    answered = await answers(request, call, admission, perf_counter() - start)
    return response(answered, observation(request).request_id)


@router.put("/explain", include_in_schema=False)
@router.post(
    "/explain",
    response_model=ExplainResponse,
    **documentation.inference(
        ExplainOptions,
        {"output": ["heatmap", "overlay"], "legend": True},
        pictures=("image/png", "image/jpeg", "image/webp"),
    ),
)
async def explain(request: Request) -> Response:
    """Where the model looks: heatmaps of one or several targets in one or several images.

    With one image, one target and one picture asked for, `Accept` returns the picture itself: `image/png` the heatmap,
    or with `output=overlay` the overlay as PNG; `image/jpeg` and `image/webp` the overlay.
    """
    admission = admit(request)
    start = perf_counter()
    call = await read_call(request, ExplainOptions, request.app.state.settings, admission)
    picture = wants_picture(", ".join(request.headers.getlist("accept")) or "*/*", call.options.output)
    if picture:
        call = for_one_picture(call, picture)
    answered = await answers(request, call, admission, perf_counter() - start)
    if picture:
        return one_picture(answered)
    return response(answered, observation(request).request_id, call.options.outputs)


def _problem(fault: Fault) -> Response:
    body = Problem.model_validate(fault).model_dump_json()
    return Response(body, fault.status, dict(fault.headers), media_type="application/problem+json")


DIALECT = Dialect(router, ("/",), _problem)
