"""OpenAPI of the operations that read their bodies themselves, and the files that ``/docs`` links to."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from gradcam_service.api.schemas import Problem
from gradcam_service.core.options import PredictOptions
from gradcam_service.inputs import media_types
from gradcam_service.registry.spec import Spec

DESCRIPTION = """\
Send a picture in one of three forms, with the same options in each:

* `multipart/form-data`: file parts named `image`, options as form fields;
* `application/json`: `image` or `images` in base64, options as members;
  (in both, `frames` for a model that takes several pictures as one, oldest first);
* the picture itself as `image/*`, an array of numbers as `application/x-npy`, DICOM as `application/dicom`, or any of
  them as `application/octet-stream`, options in the query string.

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


def inference(options: type[PredictOptions], example: dict[str, Any], pictures: Sequence[str] = ()) -> dict[str, Any]:
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


def of_instances(documented: Callable[..., Responses]) -> dict[str, Any]:
    """Keyword arguments of a route that reads instances.

    Args:
        documented: OpenAPI's responses for faults, in its dialect.
    """
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
    one = {"instances": [{"image": {"b64": _base64_photograph()}}]}
    own = {"instances": [{"image": {"b64": _base64_photograph()}, "top_k": 1}], "parameters": {"timeout_ms": 20_000}}
    examples = {"one instance": {"value": one}, "with options": {"value": own}}
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {
        "responses": documented(400, 404, 408, 413, 415, 429, 500, 503, 504, "4XX"),
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def of_tensors(documented: Callable[..., Responses]) -> dict[str, Any]:
    """Keyword arguments of a route that reads tensors.

    Args:
        documented: as for `of_instances`.
    """
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
    picture = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_base64_photograph()]}
    content = {"application/json": {"schema": schema, "example": {"inputs": [picture]}}}
    answered = {"application/json": {"schema": {"type": "object"}}}
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "responses": {
            200: {
                "description": "A tensor for each output, in JSON or as bytes behind it",
                "content": answered | binary,
            },
            **documented(400, 404, 408, 413, 415, 429, 500, 501, 503, 504, "4XX"),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def of_file(documented: Callable[..., Responses], pictures: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments of a route that reads a picture as it is, or one of a form.

    Args:
        documented: OpenAPI's responses for faults, in its dialect.
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
                "one image": {"value": {"image": _base64_photograph(), **example}},
                "two images": {"value": {"images": [_base64_photograph(), _base64_photograph()], **example}},
            },
        },
        "multipart/form-data": {"schema": form},
        "image/jpeg": picture,
        "image/png": picture,
        **{media_type: picture for media_type in media_types() if "*" not in media_type},
        "application/octet-stream": picture,
    }


@cache
def _example(path: str) -> bytes:
    return files("gradcam_service").joinpath(path).read_bytes()


def _base64_photograph() -> str:
    """A small one: a page of documentation holds several."""
    return base64.b64encode(_example("api/examples/coffee.jpg")).decode("ascii")
