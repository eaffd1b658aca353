"""Routes for operators and orchestrators: models, health, metrics, management."""

from __future__ import annotations

from time import monotonic
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

import gradcam_service
from gradcam_service import metrics
from gradcam_service.api import documentation
from gradcam_service.api.models import model_body, model_detail
from gradcam_service.api.schemas import Health, ModelDetail, ModelList
from gradcam_service.errors import NotReady
from gradcam_service.registry.listing import resolve
from gradcam_service.worker.client import Workers

router = APIRouter()
exposition = APIRouter()
catalogue = APIRouter(tags=["models"])
management = APIRouter(prefix="/models", tags=["management"])


def _workers(request: Request) -> Workers:
    workers: Workers = request.app.state.workers
    return workers


@catalogue.get("/models", response_model_exclude_none=True)
async def models(request: Request) -> ModelList:
    """Every model version in the repository, its state and what it can do."""
    workers = _workers(request)
    listed = [model_body(model, workers.devices_of(model.key)) for model in workers.models()]
    return ModelList(default=request.app.state.settings.default_model, models=listed)


@catalogue.get("/models/{name}", response_model_exclude_none=True, responses=documentation.problems(404, "4XX"))
async def model(request: Request, name: Annotated[str, Path(examples=["imagenet"])]) -> ModelDetail:
    """One model version: its classes, the layers it can be explained at, the methods that work."""
    workers = _workers(request)
    found = resolve(workers.models(), name)
    return model_detail(found, workers.devices_of(found.key))


@router.get("/livez", tags=["health"])
async def livez() -> dict[str, str]:
    """Whether this process runs. A failure means: restart it."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"], responses=documentation.problems(503))
async def readyz(request: Request) -> dict[str, str]:
    """Whether requests will be answered now. A failure means: send them elsewhere."""
    require_ready(request)
    return {"status": "ok"}


@router.get("/healthz", tags=["health"])
async def healthz(request: Request) -> Health:
    """How the service is, for people."""
    workers = _workers(request)
    return Health(
        status="ok" if workers.ready else "not ready",
        version=gradcam_service.__version__,
        devices=workers.devices(),
        models={model.key: model.state for model in workers.models()},
    )


@exposition.get("/metrics", tags=["health"], response_class=Response)
async def prometheus() -> Response:
    """Metrics of all processes in Prometheus's text format."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@management.post("/reload", response_model_exclude_none=True, responses=documentation.problems(401, 503, "4XX"))
async def rescan(request: Request) -> ModelList:
    """Rescan the model repositories now: what is new is loaded, what is gone is unloaded. Needs the admin token."""
    await _workers(request).rescan(_deadline(request))
    return await models(request)


@management.post(
    "/{name}/{action}", response_model_exclude_none=True, responses=documentation.problems(401, 404, 503, "4XX")
)
async def manage(
    request: Request,
    name: Annotated[str, Path(examples=["imagenet"])],
    action: Annotated[Literal["load", "unload", "reload"], Path(examples=["load"])],
) -> ModelDetail:
    """Load a model version now, forget it, or load it again from the repository. Needs the admin token.

    While it is loaded again, the old one goes on answering; if that fails, it stays.
    """
    workers, deadline = _workers(request), _deadline(request)
    if action == "reload":
        await workers.rescan(deadline)
    found = resolve(workers.models(), name)
    if action == "unload":
        await workers.unload(found.key, deadline)
    else:
        await workers.load(found.key, deadline, again=action == "reload" or found.state == "failed")
    return await model(request, found.key)


def require_ready(request: Request) -> None:
    """Refuse where requests wouldn't be answered now.

    Raises:
        NotReady: saying why.
    """
    if request.app.state.leaving.is_set():
        raise NotReady("this process is being stopped")
    if not _workers(request).ready:
        raise NotReady("no worker is ready yet; it loads its models, or makes them faster")


def _deadline(request: Request) -> float:
    timeout_ms: int = request.app.state.settings.timeout_ms
    return monotonic() + timeout_ms / 1e3
