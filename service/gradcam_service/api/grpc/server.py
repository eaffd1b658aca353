"""The gRPC server of one API process, on a port that it shares with the others."""

from __future__ import annotations

import grpc
from starlette.types import ASGIApp

from gradcam_service.api.grpc.service import Services
from gradcam_service.settings import Settings

_FRAME = 2**20
"""Bytes of a message beside its tensors."""


async def start(app: ASGIApp, settings: Settings) -> grpc.aio.Server:
    """Listen at ``settings.grpc_port``, as every API process does: the system hands each connection to one of them.

    Args:
        app: what is asked.
        settings: have the limits.

    Raises:
        RuntimeError: the port can't be listened on.
    """
    patience = round(1e3 * settings.read_seconds)
    server = grpc.aio.server(
        handlers=Services(app, settings).handlers(),
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
