"""Errors as both of KServe's protocols over HTTP tell of them."""

from __future__ import annotations

from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from gradcam_service.api.dialects import Fault
from gradcam_service.api.documentation import Responses, faults

STATUS = {422: 400}
"""What their clients know by another status."""


class Error(BaseModel):
    """What was wrong and what would work."""

    error: str = Field(description="a stable code, a colon, and one sentence for people")


def text(code: str, detail: str) -> str:
    """A fault in one line."""
    return f"{code}: {detail}"


def write(fault: Fault) -> Response:
    """A fault as a response; its content type is exactly this, as their clients compare it."""
    body = {"error": text(fault.code, fault.detail)}
    return JSONResponse(body, STATUS.get(fault.status, fault.status), dict(fault.headers))


def documented(*statuses: int | str) -> Responses:
    """OpenAPI responses that tell of faults."""
    return faults(Error, *statuses)
