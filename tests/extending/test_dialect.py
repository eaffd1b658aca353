"""A dialect is one file: ``tests/plugins/shout.py``."""

import socket
from contextlib import ExitStack

import pytest

from api.calls import BINARY, answered, encoded, photo, problem
from exposed import samples, value
from live import PATIENCE, until

PICTURE = encoded(photo(200, 150), "PNG")


def test_a_dialect_answers_under_its_own_paths(client):
    best = answered(client.post("/predict", content=PICTURE, headers=BINARY))["results"][0]["predictions"][0]
    shouted = client.post("/shout/scenes", content=PICTURE, headers=BINARY)
    assert (shouted.status_code, shouted.text) == (200, f"{best['label']}!".upper())
    assert shouted.headers["server-timing"].startswith("read;")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/shout/scenes", b"no picture", 422, "undecodable_image"),
        ("POST", "/shout/nothing", PICTURE, 404, "unknown_model"),
        ("POST", "/shout/scenes", b"\xff" * 100_001, 413, "too_large"),
        ("GET", "/shout/scenes", b"", 405, "method_not_allowed"),
        ("POST", "/shout/scenes/louder", PICTURE, 404, "no_such_path"),
    ],
)
def test_a_dialect_tells_of_errors_in_its_own_words(client, method, path, body, status, code):
    refused = client.request(method, path, content=body, headers=BINARY)
    assert (refused.status_code, refused.text) == (status, f"OOPS: {code}!")
    assert refused.headers["content-type"].startswith("text/plain")


def test_the_native_dialect_goes_on_in_its_own(client):
    assert problem(client.post("/predict", content=b"no picture", headers=BINARY), 422, "undecodable_image")
    assert problem(client.get("/whisper"), 404, "no_such_path")


def test_metrics_of_the_supervisor_are_told_whatever_a_plugin_imports(client):
    told = {(name, *labels) for name, labels in samples(client)}
    assert ("gradcam_worker_up", ("device", "cpu")) in told


def test_what_a_dialect_refuses_is_counted_and_its_route_is_named(client):
    def counted():
        asked = value(
            client, "gradcam_requests_total", endpoint="/shout/{model}", model="scenes", status="200", inference="true"
        )
        return asked, value(client, "gradcam_rejected_total", reason="undecodable_image")

    asked, refused = counted()
    client.post("/shout/scenes", content=PICTURE, headers=BINARY)
    client.post("/shout/scenes", content=b"no picture", headers=BINARY)
    until(counted, (asked + 1, refused + 1))  # a little after their answers


def test_a_dialect_tells_of_what_is_refused_before_it_is_asked(client):
    with ExitStack() as connected:
        address = "127.0.0.1", client.base_url.port
        *_, surplus = [connected.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(21)]
        surplus.sendall(b"POST /shout/scenes HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n")
        head, _, body = surplus.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == b"OOPS: too_many_connections!"
