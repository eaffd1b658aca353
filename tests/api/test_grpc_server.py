"""The gRPC server of a process, without the process: it is replaced when it ends, as soon as the port can be had."""

from __future__ import annotations

import asyncio
import socket
import threading

import grpc
import pytest

from dialects.channel import OPTIONS
from gradcam_service.api.grpc import server
from gradcam_service.api.grpc.reception import Reception
from gradcam_service.core.admission import Capacity
from gradcam_service.settings import Settings


async def nobody(*_: object) -> None:
    raise AssertionError("the application isn't asked")


async def listens_at(port: int) -> None:
    """Wait until a server says that it has no such method."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            await channel.unary_unary("/nobody/Knows")(b"", wait_for_ready=True, timeout=60)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_server_that_ends_while_its_port_is_taken_is_replaced_once_that_is_free():
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as taken:
            first, second = (each.getsockname()[1] for each in (free, taken))
            free.close()
            listening = await server.start(nobody, Capacity(Settings(grpc_port=first)))
            await listens_at(first)
            listening._settings = Settings(grpc_port=second)
            await listening._server.stop(0)
            await asyncio.sleep(3 * server._SECONDS)
        await listens_at(second)
        await listening.stop(0)

    asyncio.run(scenario())


def test_a_long_message_is_read_by_the_threads_that_all_requests_share_and_in_its_turn():
    order: list[str] = []

    def read(data: object) -> str:
        order.append("message")
        return threading.current_thread().name

    async def scenario() -> list[str]:
        capacity, go = Capacity(Settings(cpus=1)), threading.Event()
        with capacity.admit() as large:
            pieces = [asyncio.ensure_future(large.run(1e9, go.wait))]
            pieces += [asyncio.ensure_future(large.run(1e9, lambda: order.append("piece"))) for _ in range(3)]
            await asyncio.sleep(0)  # one is begun, and three wait
            reception = Reception(capacity)
            short, long = (asyncio.ensure_future(reception.read(bytes(size), read)) for size in (1, 2**20))
            here = await short
            go.set()
            await asyncio.gather(long, *pieces)
        return [here, await long]

    here, there = asyncio.run(scenario())
    assert here == threading.main_thread().name
    assert there.startswith("shared")
    assert order == ["message", "piece", "message", "piece", "piece"]
