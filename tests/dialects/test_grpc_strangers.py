"""What callers of gRPC who send nothing, or have no key, cost the others: the server in this process, with sockets."""

import asyncio
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest
import uvicorn
from uvicorn.lifespan.on import LifespanOn

from gradcam_service.api.app import create_app
from gradcam_service.api.grpc.protocol import health_pb2, inference_pb2
from gradcam_service.api.grpc.server import start
from gradcam_service.core.admission import Capacity
from gradcam_service.settings import Settings
from live import free_port, until

from .channel import SERVICE

Code = grpc.StatusCode
SECONDS = 30
"""After which a call is given up that should be answered at once."""
FOO = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
KEY = [("authorization", "Bearer foo")]
MANY = 40
"""Calls; there are 32 slots for large messages."""
HEALTH = "/grpc.health.v1.Health/Check"


@contextmanager
def listening(**given):
    """The address of the server of one process, which has no worker."""
    settings, loop = Settings(api_processes=1, grpc_port=free_port(), **given), asyncio.new_event_loop()
    capacity = Capacity(settings)
    app = create_app(capacity, {}, asyncio.Event())

    async def serving(started, over):
        lifespan = LifespanOn(uvicorn.Config(app))
        await lifespan.startup()
        server = await start(app, capacity)
        started.set()
        await loop.run_in_executor(None, over.wait)
        await server.stop(0)
        await lifespan.shutdown()

    started, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serving(started, over)))
    thread.start()
    try:
        assert started.wait(SECONDS)
        yield "127.0.0.1", settings.grpc_port
    finally:
        over.set()
        thread.join()
        loop.close()


@contextmanager
def served(**given):
    """A channel to such a server."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with listening(**given) as (host, port), grpc.insecure_channel(f"{host}:{port}", options) as channel:
        yield channel


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A channel to a server that needs keys and is very patient."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(f"me {FOO}\n")
    with served(api_keys=keys, read_seconds=10_000) as channel:
        yield channel


@contextmanager
def silent(channel, method, count=1, metadata=()):
    """Open calls that never send their message."""
    over = threading.Event()

    def nothing():
        over.wait()
        yield from ()

    ask = channel.stream_stream(method)
    with ExitStack() as stack:
        calls = [ask(nothing(), timeout=SECONDS, metadata=metadata) for _ in range(count)]
        stack.callback(over.set)
        for call in calls:
            stack.callback(call.cancel)
        yield calls


def status(call):
    """With what a call ends, and what is said of it."""
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    return raised.value.code(), raised.value.details()


def health(channel):
    ask = channel.unary_unary(HEALTH, None, health_pb2.HealthCheckResponse.FromString)
    return ask(b"", timeout=SECONDS).status


def test_health_is_told_however_many_calls_never_send_their_message(guarded):
    with ExitStack() as stack:
        for method in (HEALTH, f"/{SERVICE}/ServerLive", f"/{SERVICE}/ModelInfer"):
            calls = stack.enter_context(silent(guarded, method, MANY, KEY))
        assert health(guarded) == health_pb2.HealthCheckResponse.NOT_SERVING  # there is no worker
        assert not any(call.done() for call in calls)  # those wait where they belong


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "RepositoryModelLoad", "ModelMetadata"])
def test_a_call_without_a_key_is_refused_before_its_message_is_read(guarded, method):
    with silent(guarded, f"/{SERVICE}/{method}", MANY) as calls:
        for call in calls:
            code, said = status(call)
            assert (code, said[:13]) == (Code.UNAUTHENTICATED, "unauthorized:")


def test_strangers_take_nobodys_stream(guarded):
    with silent(guarded, f"/{SERVICE}/ModelStreamInfer", MANY):
        ask = guarded.stream_stream(
            f"/{SERVICE}/ModelStreamInfer", None, inference_pb2.ModelStreamInferResponse.FromString
        )
        (answer,) = ask(iter([b""]), timeout=SECONDS, metadata=KEY)
        assert answer.error_message.startswith("malformed:")


def test_as_many_streams_as_there_are_slots_are_open(guarded):
    with silent(guarded, f"/{SERVICE}/ModelStreamInfer", 33, KEY) as calls:
        code, said = status(calls[-1])
        assert (code, said[:11]) == (Code.RESOURCE_EXHAUSTED, "queue_full:")


@pytest.mark.parametrize("method", ["ServerLive", "ModelInfer", "ModelStreamInfer"])
def test_a_message_that_does_not_come_is_not_waited_for_for_ever(method):
    with served(read_seconds=0.5) as channel, silent(channel, f"/{SERVICE}/{method}") as (call,):
        code, said = status(call)
        assert (code, said[:9]) == (Code.DEADLINE_EXCEEDED, "too_slow:")


def test_calls_are_answered_up_to_a_bound_and_health_beyond_it():
    limits = {"read_seconds": 10_000, "max_connections": MANY}
    with served(**limits) as channel, silent(channel, f"/{SERVICE}/ModelInfer", MANY + 1) as calls:
        assert status(calls[-1]) == (
            Code.RESOURCE_EXHAUSTED,
            "queue_full: 40 calls are open, the most that are accepted in one process",
        )
        assert health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_bounded_number_of_callers_watch_and_others_may_check():
    with served(read_seconds=10_000) as channel, ExitStack() as stack:
        ask = channel.unary_stream(HEALTH.replace("Check", "Watch"), None, health_pb2.HealthCheckResponse.FromString)
        calls = []
        for _ in range(32):  # one after the other: of many whose messages are awaited, the first give way
            calls.append(ask(b"", timeout=SECONDS))
            stack.callback(calls[-1].cancel)
            assert next(calls[-1]).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert status(ask(b"", timeout=SECONDS)) == (
            Code.RESOURCE_EXHAUSTED,
            "queue_full: 32 callers watch, the most that are accepted in one process",
        )
        assert health(channel) == health_pb2.HealthCheckResponse.NOT_SERVING
        calls[0].cancel()

        def is_told_again():
            with suppress(grpc.RpcError):
                return next(ask(b"", timeout=SECONDS)).status == health_pb2.HealthCheckResponse.NOT_SERVING

        until(is_told_again)


def connected(address):
    """A connection that says nothing, and whether the server has greeted it, as of HTTP/2 it does."""
    connection = socket.create_connection(address, SECONDS)
    try:
        return connection, bool(connection.recv(1))
    except ConnectionResetError:
        return connection, False


def test_connections_are_accepted_up_to_a_bound():
    with listening(read_seconds=10_000, max_connections=4) as address, ExitStack() as stack:
        greeted = []
        for _ in range(6):
            connection, welcome = connected(address)
            stack.enter_context(connection)
            greeted.append(welcome)
        assert greeted == [True] * 4 + [False] * 2


def test_connections_that_say_nothing_are_closed():
    with listening(read_seconds=0.5) as address:
        connection, _ = connected(address)
        with connection:
            while connection.recv(1000):  # until it is closed; a timeout raises
                pass
