"""The API process: the application behind uvicorn, on a socket that the supervisor opened."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket

import uvicorn

from service import logs
from service.api.app import create_app
from service.api.connection import limited
from service.settings import Settings


def main(listening: socket.socket, worker_addresses: list[str], settings: Settings) -> None:
    """Entry point of the process. SIGTERM lets it finish what it accepted."""
    logs.configure(settings.log_level)
    config = uvicorn.Config(
        create_app(settings, worker_addresses),
        access_log=False,
        log_config=None,
        http=limited(settings),
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(uvicorn.Server(config), listening))


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        loop.remove_reader(parent.sentinel)
        server.handle_exit(signal.SIGTERM, None)

    loop.add_reader(parent.sentinel, orphaned)  # never outlive the supervisor
    try:
        await server.serve(sockets=[listening])
    finally:
        loop.remove_reader(parent.sentinel)
