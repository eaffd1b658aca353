"""Errors as responses: the status of each. A dialect puts it into words, and maps the status where it has another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from gradcam_service import errors, metrics
from gradcam_service.api import operations
from gradcam_service.api.dialects import DIALECTS, Fault, dialect_of
from gradcam_service.api.observe import observation, request_id_of
from gradcam_service.errors import ServiceError
from gradcam_service.naming import did_you_mean

log = logging.getLogger(__name__)

_STATUS: dict[type[ServiceError], int] = {
    errors.BadRequest: 400,
    errors.TooSlow: 408,
    errors.HeadTooLarge: 431,
    errors.Unauthorized: 401,
    errors.UnknownModel: 404,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Unprocessable: 422,
    errors.Overloaded: 429,
    errors.ClientLeft: 499,  # as nginx logs it; nobody receives it
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.Internal: 500,
    errors.NotOffered: 501,
}
_RETRY_AFTER: dict[type[ServiceError], int] = {errors.Overloaded: 1, errors.Unavailable: 2, errors.ModelLoading: 5}
"""Seconds."""

_ROUTING = {404: "no_such_path", 405: "method_not_allowed"}


def fault(error: ServiceError, request_id: str) -> Fault:
    """An error as HTTP tells of it, in no dialect yet."""
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, errors.Unauthorized) else {}
    if retry := _of(error, _RETRY_AFTER, 0):
        headers["Retry-After"] = str(retry)
    return Fault(_of(error, _STATUS, 500), error.code, error.title, error.detail, request_id, headers)


def respond(error: ServiceError, request_id: str, path: str = "") -> Response:
    """An error as a response, in the dialect of the path; in the native one where it isn't known yet."""
    return dialect_of(path).write(fault(error, request_id))


def refuse(error: ServiceError, path: str, given_id: str = "") -> Response:
    """What is answered, logged and counted where the application is not asked.

    Args:
        error: why.
        path: has the dialect.
        given_id: the request's, as its caller has it, if it is known.
    """
    request_id = request_id_of(given_id)
    log.warning("refused", extra={"fields": {"problem": error.code, "request_id": request_id}})
    metrics.REJECTED.labels(error.code).inc()
    response = respond(error, request_id, path)
    response.headers["X-Request-ID"] = request_id
    return response


def install(app: FastAPI) -> None:
    """Answer every error in its path's dialect: the service's own, its router's, and those that nobody foresaw."""

    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> Response:
        seen = observation(request)
        told = fault(error, seen.request_id)
        seen.problem = error.code
        # Whatever status a dialect has for it.
        seen.callers_fault |= told.status < 500 or isinstance(error, errors.NotOffered)
        return dialect_of(request.scope["path"]).write(told)

    @app.exception_handler(HTTPException)
    async def routing_error(request: Request, error: HTTPException) -> Response:
        seen, path = observation(request), request.scope["path"]
        seen.problem = _ROUTING.get(error.status_code, "http")
        title = str(error.detail)
        headers = dict(error.headers or {})
        if "Allow" in headers:
            headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))  # of a set, in any order
        detail = f"{request.method} {path}: {title}{_what_would_work(request, headers)}; /docs lists what there is"
        return dialect_of(path).write(Fault(error.status_code, seen.problem, title, detail, seen.request_id, headers))

    @app.exception_handler(RequestValidationError)
    async def no_such_action(request: Request, error: RequestValidationError) -> Response:
        return await routing_error(request, HTTPException(404))  # only paths are validated: bodies are read elsewhere

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        seen = observation(request)
        seen.problem = errors.Internal.code
        detail = f"something went wrong here; the log has the reason under request id {seen.request_id}"
        return respond(errors.Internal(detail), seen.request_id, request.scope["path"])


def _what_would_work(request: Request, headers: Mapping[str, str]) -> str:
    """The methods that a path has, or the path that was probably meant, to follow what is wrong."""
    if allowed := headers.get("Allow"):
        return f", {allowed} would work"
    return did_you_mean(request.scope["path"], _paths())


@cache
def _paths() -> list[str]:
    """The paths that are documented, whoever may ask there."""
    routers = [router for dialect in DIALECTS.values() for router in (dialect.router, dialect.open)]
    routes = [route for router in (*routers, operations.router, operations.catalogue) for route in router.routes]
    return [route.path for route in routes if isinstance(route, APIRoute) and route.include_in_schema]


def _of(error: ServiceError, table: dict[type[ServiceError], int], default: int) -> int:
    """The entry of the error's class or of the nearest class above it."""
    return next((table[cls] for cls in type(error).__mro__ if cls in table), default)
