"""A service with small limits holds to them, and says which they are."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from PIL import Image

from live import PATIENCE, until

from .calls import BINARY, ask, base64_of, encoded, full_queue, in_flight, photo, predict, problem

SMALL = encoded(photo(40, 30), "PNG")
LARGE = b"\xff" * 3_000_000


def chunked(data):
    yield from (data[start : start + 50_000] for start in range(0, len(data), 50_000))


@pytest.mark.parametrize(
    "send",
    [
        lambda client: client.post("/predict", content=LARGE, headers=BINARY),
        lambda client: client.post("/predict", content=chunked(LARGE), headers=BINARY),
        lambda client: client.post("/predict", files={"image": LARGE}),
        lambda client: client.post("/predict", json={"image": base64_of(LARGE)}),
        lambda client: client.post("/predict", content=b"\xff" * 200_001, headers=BINARY),
        lambda client: client.post("/predict", content=chunked(b"\xff" * 200_001), headers=BINARY),
    ],
    ids=["raw", "raw in chunks", "multipart", "JSON", "one byte too many", "one byte too many in chunks"],
)
def test_a_body_above_the_limit_is_a_413_that_tells_the_limit(limited, send):
    assert "200000 bytes" in problem(send(limited.client), 413, "too_large")


def test_a_body_of_just_the_limit_is_read(limited):
    response = ask(limited.client, "/predict", SMALL + bytes(200_000 - len(SMALL)))
    assert response.status_code == 200  # decoders don't mind what follows a PNG's end


def test_a_picture_above_the_pixel_limit_is_a_413_that_tells_both_numbers(limited):
    flat = encoded(Image.new("RGB", (1001, 1000)), "PNG")
    detail = problem(ask(limited.client, "/predict", flat), 413, "too_large")
    assert "1001×1000" in detail
    assert "1000000" in detail
    assert predict(limited.client, encoded(Image.new("RGB", (1000, 1000)), "PNG"))


def test_a_picture_that_only_claims_its_pixels_is_refused_before_decoding(limited):
    claim = struct.pack(">II", 60_000, 60_000)
    header = b"IHDR" + claim + SMALL[24:29]
    bomb = SMALL[:12] + header + struct.pack(">I", zlib.crc32(header)) + SMALL[33:]
    assert "60000×60000" in problem(ask(limited.client, "/predict", bomb), 413, "too_large")


@pytest.mark.parametrize("number", [4, 5, 20])
def test_too_many_images_are_a_413_in_every_form(limited, number):
    as_json = limited.client.post("/predict", json={"images": [base64_of(SMALL)] * number})
    assert "at most 3" in problem(as_json, 413, "too_large")
    as_multipart = limited.client.post("/predict", files=[("image", SMALL)] * number)
    assert "at most 3" in problem(as_multipart, 413, "too_large")


def test_too_many_targets_are_a_422(limited):
    assert "at most 2" in problem(ask(limited.client, "/explain", SMALL, target=[1, 2, 3]), 422, "too_many_targets")
    assert ask(limited.client, "/explain", SMALL, target=[1, 2]).status_code == 200


def test_a_full_queue_is_a_429_that_says_when_to_come_back(limited):
    """Requests take their places before their bodies are read."""
    with full_queue(limited.client, 3):
        response = ask(limited.client, "/predict", SMALL)
    assert "3 images" in problem(response, 429, "queue_full")
    assert int(response.headers["retry-after"]) >= 1
    assert predict(limited.client, SMALL)  # nothing of the refused request holds a place in the queue


def test_each_image_of_a_request_has_a_place_while_it_is_explained(limited):
    two = {"images": [base64_of(SMALL)] * 2}
    with ThreadPoolExecutor(1) as thread:
        accepted = thread.submit(limited.client.post, "/explain", json=two | {"method": "rise", "masks": 200})
        until(lambda: in_flight(limited.client), "gradcam_in_flight 2.0")
        assert problem(limited.client.post("/predict", json=two), 429, "queue_full")
        assert accepted.result().status_code == 200


def test_a_full_queue_is_told_before_the_body_is_sent(limited):
    connection = HTTPConnection(limited.client.base_url.netloc.decode(), timeout=PATIENCE)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(len(SMALL)))
    with full_queue(limited.client, 3):
        connection.endheaders()
        response = connection.getresponse()
        assert (response.status, response.headers["retry-after"]) == (429, "1")
    connection.close()


def test_refusals_hold_no_place_in_the_queue(limited):
    for data in (b"no picture", b"", LARGE):
        assert ask(limited.client, "/predict", data).status_code >= 400
    assert ask(limited.client, "/predict", SMALL, model="nope").status_code == 404
    assert predict(limited.client, SMALL)


def test_without_an_admin_token_there_are_no_management_calls(limited):
    for action in ("load", "unload", "reload"):
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer None"}):
            response = limited.client.post(f"/models/scenes/{action}", headers=headers)
            assert problem(response, 404, "no_such_path")
    assert not any("{action}" in path for path in limited.client.get("/openapi.json").json()["paths"])
    assert predict(limited.client, SMALL)
