"""The ASGI application of one API process."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

import gradcam_service
from gradcam_service.api import documentation, operations, playground, problems, root
from gradcam_service.api.cors import with_cors
from gradcam_service.api.dialects import DIALECTS
from gradcam_service.api.keys import AdminToken, Bearer, Keys
from gradcam_service.api.observe import Observe
from gradcam_service.api.path_normalisation import Routed
from gradcam_service.api.request_resources import Held
from gradcam_service.core.admission import Capacity
from gradcam_service.core.pipeline import Pipeline
from gradcam_service.worker.client import Workers

log = logging.getLogger(__name__)


def create_app(capacity: Capacity, worker_addresses: Mapping[str, str], leaving: asyncio.Event) -> ASGIApp:
    """The application, ready to be served.

    Args:
        capacity: what its process may hold, and the settings by which it runs.
        worker_addresses: ZeroMQ address of each worker, by its name.
        leaving: set when no more requests should be sent here.
    """
    settings, tracing = capacity.settings, None
    if settings.tracing:
        from gradcam_service.api.tracing import Tracing

        tracing = Tracing()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        workers = Workers(worker_addresses)
        app.state.workers = workers
        app.state.pipeline = Pipeline(workers, capacity)
        receiving = asyncio.create_task(workers.run())
        receiving.add_done_callback(_end_process_if_failed)
        try:
            yield
        finally:
            receiving.cancel()
            if tracing is not None:
                tracing.close()

    app = FastAPIOffline(
        title="gradcam-service",
        version=gradcam_service.__version__,
        summary="What does this image model see, and where does it look?",
        description=documentation.DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,  # it fetches a logo from elsewhere
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = settings
    app.state.leaving = leaving
    guard = [Depends(Bearer(Keys(settings.api_keys)))] if settings.api_keys is not None else []
    manager = [Depends(Bearer(AdminToken(settings.admin_token)))] if settings.admin_token is not None else []
    for name in sorted(DIALECTS, key=lambda name: name != "native"):  # whose routes are tried first, being asked most
        dialect = DIALECTS[name]
        if manager:
            app.include_router(dialect.management, dependencies=manager)
        app.include_router(dialect.router, dependencies=guard, responses=dialect.documented(401) if guard else None)
        app.include_router(dialect.open)
    unauthorized = documentation.problems(401) if guard else None
    app.include_router(operations.catalogue, dependencies=guard, responses=unauthorized)
    app.include_router(operations.router)
    if settings.metrics_port is None:
        app.include_router(operations.exposition)
    app.include_router(documentation.router)
    app.include_router(root.router)
    if settings.playground:
        app.include_router(playground.router)
    if manager:
        app.include_router(operations.management, dependencies=manager)
    problems.install(app)
    return with_cors(Observe(Routed(Held(app)), tracing), settings)


def _operation_id(route: APIRoute) -> str:
    """What an operation is called, by which generated clients name their methods: other dialects' begin with theirs."""
    room, _, module = route.endpoint.__module__.rpartition(".")
    return route.name if room == __package__ or module == "native" else f"{module}_{route.name}"


def _end_process_if_failed(task: asyncio.Task[None]) -> None:
    """A process that can't hear its workers must not pretend to serve; the supervisor starts another."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("lost touch with the workers", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)
