"""The service's own protocol: ``/predict`` and ``/explain``, errors as problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response

from gradcam_service.api.accept import for_one_picture, wants_picture
from gradcam_service.api.bodies import read_call
from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.documentation import base64_photograph, problems
from gradcam_service.api.inference import admit, answers
from gradcam_service.api.observe import observation
from gradcam_service.api.results import ExplainResponse, PredictResponse, one_picture, response
from gradcam_service.api.schemas import Problem
from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.inputs import media_types

router = APIRouter(tags=["inference"])
"""PUT is answered as POST, for ``curl -T`` and its like."""


def _documented(options: type[PredictOptions], example: dict[str, Any], pictures: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of a route that reads images and options in all three forms.

    Args:
        options: the options it takes.
        example: those that the JSON example sets.
        pictures: media types that it can answer with besides JSON.
    """
    # Without their defaults, which a page that fills in forms would send along with every try.
    fields = {
        name: {key: value for key, value in field.items() if key not in ("default", "title")}
        for name, field in options.model_json_schema()["properties"].items()
    }
    return {
        "responses": {
            200: {
                "description": "One result for each image, in order",
                "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in pictures},
            },
            **problems(400, 404, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        "openapi_extra": {
            "parameters": [
                {"name": name, "in": "query", "description": field.get("description", ""), "schema": field}
                for name, field in fields.items()
            ],
            "requestBody": {
                "required": True,
                "content": _bodies(fields, example, options.__name__.removesuffix("Options")),
            },
        },
    }


def _bodies(fields: dict[str, Any], example: dict[str, Any], name: str) -> dict[str, Any]:
    def carrying(title: str, member: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "title": name + title,  # what generated clients call it
            "type": "object",
            "properties": {member: schema, **fields},
            "required": [member],
            "additionalProperties": False,
        }

    base64_image = {"type": "string", "minLength": 1, "description": "base64, or a `data:` URI"}
    several = {"type": "array", "items": base64_image, "minItems": 1, "description": "several, in place of `image`"}
    frames = {"type": "array", "items": base64_image, "minItems": 1, "description": "of one picture, oldest first"}
    parts = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = carrying("Files", "image", parts)
    form["properties"]["frames"] = parts | {"description": "in place of `image`: of one picture, oldest first"}
    del form["required"]
    picture = {"schema": {"type": "string", "format": "binary"}}

    return {
        "application/json": {
            "schema": {
                "oneOf": [
                    carrying("Image", "image", base64_image),
                    carrying("Images", "images", several),
                    carrying("Frames", "frames", frames),
                ]
            },
            "examples": {
                "one image": {"value": {"image": base64_photograph(), **example}},
                "two images": {"value": {"images": [base64_photograph(), base64_photograph()], **example}},
            },
        },
        "multipart/form-data": {"schema": form},
        "image/jpeg": picture,
        "image/png": picture,
        **{media_type: picture for media_type in media_types() if "*" not in media_type},
        "application/octet-stream": picture,
    }


@router.put("/predict", include_in_schema=False)
@router.post("/predict", response_model=PredictResponse, **_documented(PredictOptions, {"top_k": 3}))
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
    **_documented(
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
