"""TorchServe's inference API; so far its ``/ping``, and errors in its words."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.documentation import Responses, faults
from gradcam_service.api.operations import require_ready
from gradcam_service.errors import NotReady

router = APIRouter(tags=["inference"])
probes = APIRouter(tags=["health"])

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
    status = {422: 400, 429: 503}.get(fault.status, fault.status)
    kind = _KINDS_OF_404.get(fault.code) or _KINDS.get(status, "BadRequestException")
    body = {"code": status, "type": kind, "message": f"{fault.code}: {fault.detail}"}
    return JSONResponse(body, status, dict(fault.headers))


def documented(*statuses: int | str) -> Responses:
    """OpenAPI responses that tell of faults."""
    return faults(Error, *statuses)


DIALECT = Dialect(router, ("/predictions", "/explanations", "/invocations", "/ping"), write, probes, documented)
