"""OpenAPI's words on faults in every dialect, its examples' photograph, and the files that ``/docs`` links to."""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gradcam_service.api.schemas import Problem
from gradcam_service.inputs import media_types
from gradcam_service.registry.spec import Spec

DESCRIPTION = f"""\
Send a picture in one of three forms, with the same options in each:

* `multipart/form-data`: file parts named `image`, options as form fields;
* `application/json`: `image` or `images` in base64, options as members;
  (in both, `frames` for a model that takes several pictures as one, oldest first);
* the picture itself, or what else a model takes, as {", ".join(f"`{media_type}`" for media_type in media_types())} or,
  any of them, `application/octet-stream`, options in the query string.

To try the forms that take a file, save a photograph: [a camera on a tripod](docs/camera.jpg),
[coffee](docs/coffee.jpg), [a cat](docs/cat.jpg), or for the model `scenes` [this scene](docs/scene.jpg), a star and a
flower. A model repository's `model.yaml` has [a JSON schema](docs/model.schema.json).
"""

_ERRORS: dict[int | str, str] = {
    "4XX": "another fault of the request",
    400: "malformed, or an option out of range",
    401: "the API key, or a management call's admin token, is missing or wrong",
    404: "no such model",
    408: "the head or the body did not arrive in time",
    413: "too large",
    415: "a content type that carries no image",
    422: "not a picture, not what the model takes, or no such class, method or layer",
    429: "the queue is full",
    500: "our fault",
    501: "a part of the protocol that this service doesn't have",
    503: "not ready, or the model can't be loaded",
    504: "not done before the deadline",
}

Responses: TypeAlias = dict[int | str, dict[str, Any]]
"""As FastAPI's routes take them."""

router = APIRouter(include_in_schema=False)


@router.get("/docs/scene.jpg")
async def scene() -> Response:
    """A drawn scene, which the model `scenes` knows."""
    return Response(_example("api/examples/scene.jpg"), media_type="image/jpeg")


@router.get("/docs/camera.jpg")
@router.get("/docs/coffee.jpg")
@router.get("/docs/cat.jpg")
async def photograph(request: Request) -> Response:
    """A photograph that the page shows, too; pictures/CREDITS.md says whose."""
    return Response(_example(f"pictures/{request.url.path.rpartition('/')[2]}"), media_type="image/jpeg")


@router.get("/docs/model.schema.json")
async def model_schema() -> dict[str, Any]:
    """The JSON schema of ``model.yaml``, for editors and checks of repositories."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}


def problems(*statuses: int | str) -> Responses:
    """OpenAPI responses that are problems, whose schema is among the components, as results have it, too."""
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


def faults(body: type[BaseModel], *statuses: int | str) -> Responses:
    """OpenAPI responses of these statuses that tell of faults in such a body, as plain JSON."""
    return {status: {"description": _ERRORS[status], "model": body} for status in statuses}


def base64_photograph() -> str:
    """A photograph in base64 for examples, a small one: a page of documentation holds several."""
    return base64.b64encode(_example("api/examples/coffee.jpg")).decode("ascii")


@cache
def _example(path: str) -> bytes:
    return files("gradcam_service").joinpath(path).read_bytes()
