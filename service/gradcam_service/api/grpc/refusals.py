"""Errors as gRPC tells of them: the one place that makes its status of an error, whoever found it."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc
import msgspec
from starlette.datastructures import Headers

from gradcam_service.api import problems
from gradcam_service.api.grpc.application import Answer
from gradcam_service.api.grpc.metadata import Context, headers_of, trailing
from gradcam_service.api.observe import request_id_of
from gradcam_service.errors import Internal, ServiceError

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,  # not UNAVAILABLE, which KServe's client tries three times more
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_PATH = "/v2"
"""Of the dialect whose words these are."""

_LONGEST = 1000
"""Characters of what is said, three bytes or more each; clients take 8 KiB of all that trails."""

log = logging.getLogger(__name__)


class Refused(Exception):
    """A call that is answered with an error.

    Attributes:
        code: its status.
        detail: stable code, colon, and what is wrong, as in the JSON of the same protocol.
        metadata: that trail.
    """

    def __init__(self, answer: Answer) -> None:
        self.code = _CODES.get(answer.status, grpc.StatusCode.INTERNAL)
        self.detail = _reason(answer.body)[:_LONGEST]
        self.metadata = trailing(answer.headers)
        super().__init__(self.detail)


def refusal(error: Exception, context: Context) -> Refused:
    """How a call is answered because of an error; one that isn't of the application's is logged and counted here."""
    if isinstance(error, Refused):
        return error
    request_id = request_id_of(headers_of(context).get("x-request-id", ""))
    if not isinstance(error, ServiceError):
        log.error("request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
        error = Internal(f"something went wrong here; the log has the reason under request id {request_id}")
    response = problems.refuse(error, _PATH, request_id)
    return Refused(Answer(response.status_code, Headers(raw=response.raw_headers), bytes(response.body)))


async def refuse(error: Exception, context: Context) -> NoReturn:
    """Answer a call with an error.

    Raises:
        grpc.aio.AbortError: as the server wants it.
    """
    refused = refusal(error, context)
    await context.abort(refused.code, refused.detail, refused.metadata)
    raise refused


def _reason(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body[:1000].decode("latin-1")
    return str(said.get("error") or said.get("detail")) if isinstance(said, dict) else ""
