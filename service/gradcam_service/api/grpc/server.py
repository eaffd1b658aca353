"""The gRPC server of one API process, on a port that it shares with the others."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from starlette.types import ASGIApp

from gradcam_service.api.grpc.service import Services
from gradcam_service.settings import Settings

_FRAME = 2**20
"""Bytes of a message beside its tensors."""


@dataclass(frozen=True)
class Listening:
    """A server that listens, and what it serves."""

    server: grpc.aio.Server
    services: Services

    async def stop(self, grace: float) -> None:
        """Accept no calls, and end those that are open after so many seconds; who watches isn't waited for."""
        self.services.health.leave()
        await self.server.stop(grace)


async def start(app: ASGIApp, settings: Settings) -> Listening:
    """Listen at ``settings.grpc_port``, as every API process does: the system hands each connection to one of them.

    Args:
        app: what is asked.
        settings: have the limits.

    Raises:
        RuntimeError: the port can't be listened on.
    """
    patience = round(1e3 * settings.read_seconds)
    services = Services(app, settings)
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
    return Listening(server, services)
