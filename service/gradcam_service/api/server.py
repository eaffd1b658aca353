"""The API process: the application behind uvicorn, on a socket that the supervisor opened."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from functools import partial
from types import FrameType

import uvicorn

from gradcam_service import logs
from gradcam_service.kinds import load_plugins
from gradcam_service.settings import Settings


def main(listening: socket.socket, worker_addresses: dict[str, str], settings: Settings) -> None:
    """Entry point of the process. SIGTERM lets it finish what it accepted."""
    logs.configure(settings.log_level)
    load_plugins(settings.plugins)
    from gradcam_service.api.app import create_app  # these make schemas of all kinds that there are, on being imported
    from gradcam_service.api.connection import Connection

    leaving = asyncio.Event()
    config = uvicorn.Config(
        create_app(settings, worker_addresses, leaving),
        access_log=False,
        log_config=None,
        http=partial(Connection, settings),  # type: ignore[arg-type]  # called as a class would be
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config, leaving, settings.notice_seconds), listening))


class _Server(uvicorn.Server):
    """Is not ready for a while before it stops listening, so that load balancers have noticed by then.

    Args:
        config: uvicorn's.
        leaving: set when it is told to stop.
        notice_seconds: how long it goes on from there.
    """

    def __init__(self, config: uvicorn.Config, leaving: asyncio.Event, notice_seconds: float) -> None:
        super().__init__(config)
        self._leaving = leaving
        self._notice_seconds = notice_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in the midst of anything, when a signal arrives."""
        loop, stop = asyncio.get_running_loop(), super().handle_exit

        def leave() -> None:
            self._leaving.set()
            loop.call_later(self._notice_seconds, stop, sig, frame)

        loop.call_soon_threadsafe(leave)


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
