"""KServe's first protocol, which TensorFlow Serving and Vertex AI speak too."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from gradcam_service.api.dialects import Dialect
from gradcam_service.api.dialects import _kserve as kserve
from gradcam_service.api.operations import require_ready
from gradcam_service.errors import NotReady, UnknownModel
from gradcam_service.registry.listing import resolve

router = APIRouter()
probes = APIRouter(tags=["health"])


@router.get("/v1/models", tags=["models"])
async def models(request: Request) -> dict[str, list[str]]:
    """The names of all models."""
    return {"models": sorted({model.name for model in request.app.state.workers.models()})}


@probes.get("/v1/models/{name}", responses=kserve.documented(404, 503, "4XX"))
@probes.get("/v1/models/{name}/versions/{version}", include_in_schema=False)
@probes.get("/v1/models/{name}/labels/{version}", include_in_schema=False)
async def status(request: Request, name: str) -> dict[str, Any]:
    """Whether a model answers, as KServe and as TensorFlow Serving tell it; who has no key is told no other's name."""
    try:
        model = resolve(request.app.state.workers.models(), _reference(request))
    except UnknownModel:
        raise UnknownModel(f"Model with name {name} does not exist.") from None
    require_ready(request)
    if not model.available:
        raise NotReady(f"Model with name {name} is not ready.")
    served = {"version": model.version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"name": name, "ready": True, "model_version_status": [served]}


def _reference(request: Request) -> str:
    """The model of a path, and its version or alias where the path has one."""
    name, version = (request.path_params.get(part, "") for part in ("name", "version"))
    return f"{name}@{version}" if version else name


DIALECT = Dialect(router, ("/v1",), kserve.write, probes, kserve.documented)
