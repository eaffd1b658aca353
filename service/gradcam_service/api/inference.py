"""A call that has been read, answered: what every dialect does between its own reading and its own writing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

from fastapi import Request

from gradcam_service.api import fault_attribution
from gradcam_service.api.bodies import declared_size
from gradcam_service.api.observe import observation
from gradcam_service.api.request_resources import held
from gradcam_service.core.admission import Admission
from gradcam_service.core.options import Call, ExplainOptions, PredictOptions
from gradcam_service.core.pipeline import Pipeline
from gradcam_service.core.results import Answers, Result
from gradcam_service.errors import ClientLeft, ServiceError

Answer = TypeVar("Answer")


def admit(request: Request) -> Admission:
    """Let a request in before its body is read, with what it says is in it; held until it has been answered.

    Raises:
        Overloaded: there is no room for it now.
    """
    pipeline: Pipeline = request.app.state.pipeline
    most: int = request.app.state.settings.max_body_bytes
    return held(request).enter_context(pipeline.capacity.admit(size=min(declared_size(request), most)))


def reference(request: Request) -> str:
    """The model of a path, as ``name@version`` where it has a version or an alias, too."""
    name, version = (request.path_params.get(part, "") for part in ("name", "version"))
    return f"{name}@{version}" if version else name


async def answers(
    request: Request,
    call: Call[PredictOptions] | Call[ExplainOptions],
    admission: Admission,
    seconds_reading: float,
) -> Answers:
    """Each image's answer or error.

    Raises:
        ServiceError: what is wrong with the whole call, or with the first image if nothing could be answered.
    """
    read = perf_counter()
    pipeline: Pipeline = request.app.state.pipeline
    seen = observation(request)
    with blamed(request, call.options):
        answered = await _unless_client_leaves(request, pipeline.answer(call, admission, seen))
        seen.record("read", seconds_reading, read)
        seen.warnings += (
            warning for result in answered.results if isinstance(result, Result) for warning in result.warnings
        )
        first, *others = answered.results
        if isinstance(first, ServiceError) and all(isinstance(result, ServiceError) for result in others):
            raise first
    return answered


@contextmanager
def blamed(request: Request, options: PredictOptions) -> Iterator[None]:
    """Note whose fault an error is that is raised in the block, where another choice would have been answered."""
    try:
        yield
    except ServiceError as error:
        state, seen = request.app.state, observation(request)
        seen.callers_fault = fault_attribution.is_callers(error, options, state.settings, state.workers.models())
        raise


async def _unless_client_leaves(request: Request, answer: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer; it is given up when nobody waits for it any more.

    Raises:
        ClientLeft: the connection was closed.
    """
    # The body has been read, so that all that can still be received is that the client has left.
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientLeft("the connection was closed before the answer was there")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
