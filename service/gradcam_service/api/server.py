"""The API process: the application behind uvicorn, on a socket that the supervisor opened, and behind gRPC."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from gradcam_service import logs
from gradcam_service.kinds import load_plugins
from gradcam_service.settings import Settings

if TYPE_CHECKING:
    from gradcam_service.api.grpc.server import Listening
    from gradcam_service.core.admission import Capacity


def main(listening: socket.socket, worker_addresses: dict[str, str], settings: Settings) -> None:
    """Entry point of the process. SIGTERM lets it finish what it accepted."""
    logs.configure(settings.log_level)
    load_plugins(settings.plugins)
    from gradcam_service.api.app import create_app  # these make schemas of all kinds that there are, on being imported
    from gradcam_service.api.connection import Connection
    from gradcam_service.core.admission import Capacity

    leaving, capacity = asyncio.Event(), Capacity(settings)
    app = create_app(capacity, worker_addresses, leaving)
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        http=partial(Connection, settings),  # type: ignore[arg-type]  # called as a class would be
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config, leaving, capacity), listening))


class _Server(uvicorn.Server):
    """Is not ready for a while before it stops listening, so that load balancers have noticed by then.

    Where gRPC is on, it starts once the application has, and ends with it.

    Args:
        config: uvicorn's.
        leaving: set when it is told to stop.
        capacity: what the process may hold; its settings say how long it goes on from there, and how long it may
            finish what it accepted.
    """

    def __init__(self, config: uvicorn.Config, leaving: asyncio.Event, capacity: Capacity) -> None:
        super().__init__(config)
        self._leaving = leaving
        self._capacity, self._settings = capacity, capacity.settings
        self._grpc: Listening | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called to start to listen."""
        await super().startup(sockets)
        if self._settings.grpc_port is not None and not self.should_exit:
            from gradcam_service.api.grpc.server import start  # an extra

            self._grpc = await start(self.config.app, self._capacity)  # type: ignore[arg-type]  # not one to import

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called to stop to listen, and to finish what was accepted, before the application ends."""
        if self._grpc is not None:
            stopping = asyncio.create_task(self._grpc.stop(self._settings.drain_seconds))
            self.server_state.tasks.add(stopping)  # as a request of HTTP, which is waited for
            stopping.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called in the midst of anything, when a signal arrives."""
        loop, stop = asyncio.get_running_loop(), super().handle_exit

        def leave() -> None:
            self._leaving.set()
            loop.call_later(self._settings.notice_seconds, stop, sig, frame)

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
