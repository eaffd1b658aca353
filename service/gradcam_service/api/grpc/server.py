"""The gRPC server of one API process, on a port that it shares with the others."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

import grpc
from starlette.types import ASGIApp

from gradcam_service.api.grpc.service import Services
from gradcam_service.core.admission import Capacity
from gradcam_service.settings import Settings

_FRAME = 2**20
"""Bytes of a message beside its tensors."""

_SECONDS = 0.2
"""Between two looks whether a server is there."""
_KEPT = 16

log = logging.getLogger(__name__)


class Listening:
    """A server that listens, and another in its place whenever one ends by itself.

    `grpc.aio`'s (1.85) does, with all calls that are open, where the path of one is no UTF-8, whoever sends that.

    Args:
        services: what it serves.
        settings: have the limits.
    """

    def __init__(self, services: Services, settings: Settings) -> None:
        self._services, self._settings = services, settings
        self._ending = deque[grpc.aio.Server](maxlen=_KEPT)  # must not be destroyed before their callers have left

    async def begin(self) -> None:
        """Listen for calls.

        Raises:
            RuntimeError: the port can't be listened on.
        """
        self._server = await _listening(self._services, self._settings)
        self._lasting = asyncio.create_task(self._last())

    async def stop(self, grace: float) -> None:
        """Accept no calls, and end those that are open after so many seconds; who watches isn't waited for."""
        self._lasting.cancel()
        with suppress(asyncio.CancelledError):
            await self._lasting
        self._services.health.leave()
        await self._server.stop(grace)

    async def _last(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            if self._server._server.is_running():
                continue
            try:
                another = await _listening(self._services, self._settings)
            except RuntimeError as error:
                log.error("gRPC's server ended by itself, and none can listen yet: %s", error)
                continue
            log.error("gRPC's server ended by itself; another takes its place")
            self._ending.append(self._server)
            self._server = another


async def start(app: ASGIApp, capacity: Capacity) -> Listening:
    """Listen at the settings' ``grpc_port``, as every API process does: the system hands each connection to one.

    Args:
        app: what is asked.
        capacity: what the process may hold; its settings have the limits.

    Raises:
        RuntimeError: the port can't be listened on.
    """
    started = Listening(Services(app, capacity), capacity.settings)
    await started.begin()
    return started


async def _listening(services: Services, settings: Settings) -> grpc.aio.Server:
    """One that listens."""
    patience = round(1e3 * settings.read_seconds)
    server = grpc.aio.server(
        handlers=services.handlers(),
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", settings.max_body_bytes + _FRAME),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 2**16),
            ("grpc.max_allowed_incoming_connections", settings.share(settings.max_connections)),
            ("grpc.server_handshake_timeout_ms", patience),
            ("grpc.max_connection_idle_ms", patience),
        ],
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    server.add_insecure_port(f"{host}:{settings.grpc_port}")
    await server.start()
    return server
