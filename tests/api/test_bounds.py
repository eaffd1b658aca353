"""What a request may cost the API process, asked of a running service."""

import asyncio
import json
import socket
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from gradcam_service.api import bodies
from gradcam_service.api.bodies import decode_base64
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import PredictOptions
from gradcam_service.settings import Settings
from live import until

from .calls import BINARY, answered, ask, base64_of, encoded, opened, photo, predict, problem

SMALL = encoded(photo(40, 30), "PNG")
PADDED = SMALL + bytes(150_000 - len(SMALL))
"""A picture of 150,000 bytes."""


@contextmanager
def announced(client, size, path="/predict"):
    """A request whose head says that so many bytes follow, of which none has come."""
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=20) as connection:
        connection.sendall(head.encode())
        yield connection


def in_flight(client):
    return next(line for line in client.get("/metrics").text.splitlines() if line.startswith("gradcam_in_flight"))


def chunked(data):
    yield from (data[start : start + 50_000] for start in range(0, len(data), 50_000))


def test_bytes_in_flight_are_bounded_before_a_body_is_read_and_given_back_when_callers_leave(limited):
    client = limited.client
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(announced(client, 150_000))
        until(lambda: in_flight(client), "gradcam_in_flight 2.0")
        refused = ask(client, "/predict", PADDED)
        assert "400000 bytes" in problem(refused, 429, "too_many_bytes")
        assert int(refused.headers["retry-after"]) >= 1
        in_chunks = client.post("/predict", content=chunked(PADDED), headers=BINARY)
        assert problem(in_chunks, 429, "too_many_bytes")
        assert predict(client, SMALL)  # there is room for this one
        with announced(client, 150_000) as unread:  # and this one is refused without a byte of its body
            assert unread.recv(65536).startswith(b"HTTP/1.1 429 ")
    until(lambda: in_flight(client), "gradcam_in_flight 0.0")
    assert predict(client, PADDED)


def test_places_in_the_queue_are_taken_before_a_body_is_read(limited):
    client = limited.client
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(announced(client, 1000))
        until(lambda: in_flight(client), "gradcam_in_flight 3.0")
        assert problem(ask(client, "/predict", SMALL), 429, "queue_full")
    until(lambda: in_flight(client), "gradcam_in_flight 0.0")
    assert predict(client, SMALL)


def test_an_answer_that_would_be_too_large_is_a_422_that_says_what_would_fit(client):
    picture = encoded(Image.new("RGB", (4000, 3000), (90, 120, 30)), "JPEG")
    many = {"output": ["heatmap", "overlay"], "format": "png", "max_side": 4096, "target": list(range(12))}
    refused = client.post("/explain", json={"images": [base64_of(picture)] * 16, **many})
    detail = problem(refused, 422, "answer_too_large")
    assert "384 pictures and maps of 4608000000 pixels" in detail
    assert "max_side=341 would fit" in detail
    assert "decode" not in refused.headers["server-timing"]  # nothing was


def test_bounds_of_an_answer_are_of_what_is_drawn_not_of_what_could_be(limited):
    assert ask(limited.client, "/explain", SMALL, target=[1, 2], output=["heatmap", "overlay"]).status_code == 200
    large = encoded(Image.new("RGB", (1000, 1000)), "PNG")
    assert problem(ask(limited.client, "/explain", large, target=[1, 2]), 422, "answer_too_large")
    assert ask(limited.client, "/explain", large, target=[1, 2], max_side=707).status_code == 200
    assert ask(limited.client, "/explain", large, target=[1, 2], output="map").status_code == 200


def test_a_long_answer_is_written_in_pieces_and_is_the_same(client):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8))
    options = {"target": [1, 2], "output": "overlay", "format": "png"}
    long = ask(client, "/explain", encoded(noise, "PNG"), **options)
    assert len(long.content) > 2**21
    assert long.headers["transfer-encoding"] == "chunked"
    explanations = answered(long)["results"][0]["explanations"]
    assert [each["target"]["index"] for each in explanations] == [1, 2]
    assert [opened(each["overlay"]).size for each in explanations] == [(900, 700)] * 2
    short = ask(client, "/explain", encoded(noise, "PNG"), **options, size="input")
    assert int(short.headers["content-length"]) == len(short.content)
    answered(short)


def test_long_json_is_read_as_short_json_is(client):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 800, 3), np.uint8))
    data = encoded(noise, "PNG")
    assert len(data) > 2**21
    expected, whole = predict(client, data), base64_of(data)
    broken = "\r\n".join(whole[i : i + 76] for i in range(0, len(whole), 76))
    for text in (whole, f"data:image/png;base64,{whole}", broken):
        (result,) = answered(client.post("/predict", json={"image": text}))["results"]
        assert result["predictions"] == expected
    early = base64_of(data[:100]) + whole
    assert "padding" in problem(client.post("/predict", json={"image": early}), 400, "malformed")
    cut = json.dumps({"image": whole}).encode()[:-1]
    sent = client.post("/predict", content=cut, headers={"Content-Type": "application/json"})
    assert problem(sent, 400, "malformed")


@pytest.mark.parametrize("size", [3 * 2**18 - 1, 3 * 2**18, 3 * 2**18 + 1, 3 * 2**19 + 2])
def test_base64_is_the_same_at_the_border_of_its_parts(size):
    data = np.random.default_rng(size).bytes(size)
    assert decode_base64(base64_of(data), "here") == data


@pytest.mark.parametrize(("size", "thread"), [(1000, "MainThread"), (900_000, "pixels_0")])
def test_long_json_is_read_off_the_event_loop(monkeypatch, size, thread):
    seen = []
    decode = bodies.msgspec.json.decode

    def watched(body):
        seen.append(threading.current_thread().name)
        return decode(body)

    monkeypatch.setattr(bodies.msgspec.json, "decode", watched)
    data = np.random.default_rng(0).bytes(size)

    async def read():
        settings = Settings(cpus=1)
        chunk = {"type": "http.request", "body": json.dumps({"image": base64_of(data)}).encode()}

        async def receive():
            return chunk

        head = {"type": "http", "headers": [(b"content-type", b"application/json")], "query_string": b""}
        with Capacity(settings).admit() as admission:
            return await bodies.read_call(Request(head, receive), PredictOptions, settings, admission)

    assert asyncio.run(read()).images == [data]
    assert seen == [thread]
