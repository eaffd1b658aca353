"""Damaged messages and connections of gRPC: each is answered or refused, and no process dies of it."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import numpy as np
import pytest

from api.calls import encoded
from dialects.channel import OPTIONS, SERVICE, Channel, address, pictures
from gradcam_service.api.grpc.protocol import inference_pb2
from live import PATIENCE, Service, until

from .test_images import CONNECTIONS, PICTURE, damaged

Code = grpc.StatusCode
Request, Tensor = inference_pb2.ModelInferRequest, inference_pb2.ModelInferRequest.InferInputTensor
FILE = encoded(PICTURE, "JPEG")
FLOATS = np.zeros((1, 3, 128, 128), "<f4")
PIXELS = np.asarray(PICTURE)[None]


def of(*inputs: Tensor, raw: tuple[bytes, ...] = (), model: str = "scenes-explain") -> bytes:
    wanted = [Request.InferRequestedOutputTensor(name=name) for name in ("map", "scores")]
    options = {"method": inference_pb2.InferParameter(string_param="gradcam")}
    asked = Request(model_name=model, inputs=inputs, raw_input_contents=raw, outputs=wanted, parameters=options)
    return asked.SerializeToString()


def holding(name: str, datatype: str, shape: list[int], **contents: object) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=shape, contents=inference_pb2.InferTensorContents(**contents))


MESSAGES = {
    "files, raw": Request(model_name="scenes", **pictures(FILE, FILE)).SerializeToString(),
    "a file and targets": of(
        holding("image", "BYTES", [1], bytes_contents=[FILE]),
        holding("target", "INT64", [1, 2], int64_contents=[3, 5]),
    ),
    "floats, raw": of(Tensor(name="input", datatype="FP32", shape=FLOATS.shape), raw=(FLOATS.tobytes(),)),
    "pixels": of(holding("image", "UINT8", [*PIXELS.shape], uint_contents=PIXELS.ravel().tolist())),
}
"""What is damaged."""
REFUSED = {
    *(Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.UNIMPLEMENTED, Code.DEADLINE_EXCEEDED)
}
"""What may be said of a message that is damaged; nothing that means that the service is at fault."""


@pytest.fixture(scope="module")
def channel(guarded: Service) -> Iterator[Channel]:
    with Channel(guarded) as opened:
        yield opened


def asked(channel: Channel, data: bytes, method: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
    """The status of a call whose message is these bytes, and what is said of it."""
    answer = getattr(inference_pb2, f"{method}Response")
    try:
        channel.send(SERVICE, method, data, answer)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return Code.OK, ""


@contextmanager
def outlived(service: Service, channel: Channel) -> Iterator[None]:
    """Whatever happens in the block, no process dies of it, none grows, and a sound message is answered after it."""
    processes, before = service.lasting(), resident(service)
    yield
    assert service.lasting() == processes  # none died
    assert resident(service) - before < 20e6
    until(lambda: asked(channel, MESSAGES["files, raw"]), (Code.OK, ""))


def resident(service: Service) -> int:
    """Bytes of its processes."""
    return sum(process.memory_info().rss for process in service.lasting())


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_damaged_message_is_answered_or_refused(guarded: Service, channel: Channel, kind: str, fuzz: bool):
    message, cases = MESSAGES[kind], 1000 if fuzz else 40
    assert asked(channel, message) == (Code.OK, "")

    def send(seed: int) -> tuple[grpc.StatusCode, str]:
        return asked(channel, damaged(message, np.random.default_rng(seed)))

    with outlived(guarded, channel), ThreadPoolExecutor(CONNECTIONS) as threads:
        said = list(threads.map(send, range(cases)))
    statuses = Counter(code for code, _ in said)
    assert statuses.keys() <= REFUSED | {Code.OK}, [one for one in said if one[0] not in REFUSED | {Code.OK}][:3]
    assert statuses[Code.INVALID_ARGUMENT] > 0  # else nothing was damaged


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_that_is_cut_short_is_refused(guarded: Service, channel: Channel, kind: str, fuzz: bool):
    message = MESSAGES[kind]
    rng = np.random.default_rng(0)
    ends = {*range(60), *rng.integers(60, len(message), 1000 if fuzz else 20).tolist()}
    with outlived(guarded, channel):
        codes = Counter(asked(channel, message[:end])[0] for end in ends)
    assert codes.keys() <= {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.OK}
    assert codes[Code.OK] <= 3  # where a field ends that needn't be there


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [
        ("FP32", [1, 3, 128, 128], 4 * 3 * 128 * 128),
        ("FP64", [1, 3, 128, 128], 8 * 3 * 128 * 128),
        ("UINT8", [1, 64, 64, 3], 64 * 64 * 3),
        ("BYTES", [2, 1], 2 * (4 + len(FILE))),
    ],
)
def test_raw_contents_of_another_length_are_refused_by_their_input(
    guarded: Service, channel: Channel, datatype: str, shape: list[int], size: int
):
    whole = np.frombuffer(pictures(FILE, FILE)["raw_input_contents"][0], np.uint8) if datatype == "BYTES" else None
    with outlived(guarded, channel):
        for length in (0, 1, 3, 4, size // 2, size - 1, size + 1, size + 4, 2 * size):
            data = bytes(length) if whole is None else np.resize(whole, length).tobytes()
            for more in ((), (b"",), (data,)):
                tensor = Tensor(name="theirs", datatype=datatype, shape=shape)
                code, said = asked(channel, of(tensor, raw=(data, *more)))
                assert code is Code.INVALID_ARGUMENT
                assert said.startswith("malformed: ")
                assert ("'theirs'" in said) != bool(more), said
                assert ("raw_input_contents for 1 inputs" in said) == bool(more), said


@contextmanager
def overheard(service: Service) -> Iterator[tuple[Callable[[], bytes], str]]:
    """A port that leads to the service's own, and all that callers have said there."""
    heard: list[bytes] = []
    host, _, port = address(service).rpartition(":")

    def pass_on(source: socket.socket, target: socket.socket, note: Callable[[bytes], object]) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                note(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            caller, _ = listening.accept()
            with caller, socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=pass_on, args=(server, caller, len))
                back.start()
                pass_on(caller, server, heard.append)
                back.join()

        serving = threading.Thread(target=serve)
        serving.start()
        yield lambda: b"".join(heard), f"127.0.0.1:{listening.getsockname()[1]}"
        serving.join()


@pytest.fixture(scope="module")
def connection(guarded: Service) -> bytes:
    """All that a client says on a connection on which it asks for the scores of a picture."""
    with overheard(guarded) as (said, target):
        with grpc.insecure_channel(target, OPTIONS) as opened:
            ask = opened.unary_unary(f"/{SERVICE}/ModelInfer")
            ask(Request(model_name="scenes", **pictures(FILE)).SerializeToString(), timeout=PATIENCE)
        whole = said()
    assert FILE in whole
    return whole


def said_to(service: Service, data: bytes) -> bytes:
    """What a connection is answered to these bytes, after which its caller says no more."""
    host, _, port = address(service).rpartition(":")
    pieces = []
    with suppress(ConnectionError), socket.create_connection((host, int(port)), PATIENCE) as opened:
        opened.sendall(data)
        opened.shutdown(socket.SHUT_WR)
        while piece := opened.recv(2**16):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_damaged_connection_is_answered_or_closed(guarded: Service, channel: Channel, connection: bytes, fuzz: bool):
    def send(seed: int) -> bytes:
        return said_to(guarded, damaged(connection, np.random.default_rng(seed)))

    with outlived(guarded, channel), ThreadPoolExecutor(CONNECTIONS) as threads:
        answers = list(threads.map(send, range(2000 if fuzz else 80)))
    assert any(answers)  # else nothing was understood


def test_a_path_that_is_no_text_ends_no_server(guarded: Service, channel: Channel, connection: bytes):
    path = f"/{SERVICE}/ModelInfer".encode()
    at = connection.index(path)
    damage = connection[:at] + b"\xff" * len(path) + connection[at + len(path) :]
    with outlived(guarded, channel):
        for _ in range(3):
            said_to(guarded, damage)
            until(lambda: asked(channel, MESSAGES["files, raw"]), (Code.OK, ""))


LONG = {"longer than it is": 1000, "longer than is accepted": 2**31, "as long as can be": 2**32 - 1, "empty": 0}


@pytest.mark.parametrize("claim", LONG)
@pytest.mark.parametrize("compressed", [0, 1])
def test_a_message_whose_length_is_not_what_is_said_costs_nothing(
    guarded: Service, channel: Channel, connection: bytes, claim: str, compressed: int
):
    message = Request(model_name="scenes", **pictures(FILE)).SerializeToString()
    head = b"\0" + len(message).to_bytes(4, "big")
    assert connection.count(head) == 1
    length = LONG[claim] + len(message) * (claim == "longer than it is")
    with outlived(guarded, channel):
        for _ in range(20):
            said_to(guarded, connection.replace(head, bytes([compressed]) + length.to_bytes(4, "big")))
