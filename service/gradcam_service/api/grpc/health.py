"""``grpc.health.v1.Health``: what Kubernetes' probes check, and what proxies and clients watch.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from gradcam_service.api.grpc.metadata import Context
from gradcam_service.api.grpc.parsing import parse
from gradcam_service.api.grpc.protocol.health_pb2 import HealthCheckRequest, HealthCheckResponse
from gradcam_service.api.grpc.reception import Reception
from gradcam_service.api.grpc.refusals import refuse
from gradcam_service.errors import Overloaded, UnknownModel, shortened

_MOST_WATCHES = 32
"""In one process."""
_SECONDS = 1.0
"""Between two looks."""


class Health:
    """Tells whether requests are answered now, once or whenever that changes. Needs no key.

    Args:
        service: the name of the only one that there is.
        is_ready: whether it answers, for a call's context.
        reception: reads messages.
    """

    def __init__(self, service: str, is_ready: Callable[[Context], Awaitable[bool]], reception: Reception) -> None:
        self._service, self._is_ready, self._reception = service, is_ready, reception
        self._watches, self._leaving = 0, asyncio.Event()

    async def check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """Tell once whether the server serves."""
        if request.service not in ("", self._service):
            raise UnknownModel(f"there is no service {shortened(request.service)!r} but {self._service}")
        return await self._status(request.service, context)

    async def watch(self, _: object, context: Context) -> AsyncIterator[HealthCheckResponse]:
        """Answer at once, and again whenever it is another, until the caller or this process leaves."""
        if self._watches >= _MOST_WATCHES:
            await refuse(
                Overloaded(f"{_MOST_WATCHES} callers watch, the most that are accepted in one process"), context
            )
        self._watches += 1
        try:
            request, told = parse(HealthCheckRequest, await self._reception.probe(context)), None
            while not self._leaving.is_set():
                if (status := await self._status(request.service, context)) != told:
                    told = status
                    yield status
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), _SECONDS)
        except Exception as error:
            await refuse(error, context)
        finally:
            self._watches -= 1

    def leave(self) -> None:
        """Called when the server stops: whoever watches is told no more."""
        self._leaving.set()

    async def _status(self, service: str, context: Context) -> HealthCheckResponse:
        if service not in ("", self._service):
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        ready = await self._is_ready(context)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)
