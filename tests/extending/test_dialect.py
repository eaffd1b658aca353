"""A dialect is one file: ``tests/plugins/shout.py``."""

import pytest

from api.calls import BINARY, answered, encoded, photo, problem

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
