"""Every response says which request it answers and how long each part took."""

import re

import pytest

from exposed import value
from live import until

from .calls import ask

EVERYWHERE = [  # one of each kind of response
    ("GET", "/models", 200),
    ("GET", "/livez", 200),
    ("GET", "/metrics", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/", 200),
    ("GET", "/v1/models/scenes", 200),
    ("GET", "/v1/models/nope", 404),
    ("GET", "/web/app.js", 200),
    ("GET", "/nothing/here", 404),
    ("GET", "/predict", 405),
    ("POST", "/predict", 400),
]
HOSTILE = ["a b", "<script>alert(1)</script>", 'a"b', "a,b", "a\tb", "%0d%0aX: y", "x" * 129, "é".encode(), b"\xff", ""]


def timings(response):
    """Stage → ms of a ``Server-Timing`` header, in its order."""
    parts = response.headers["server-timing"].split(", ")
    pairs = [re.fullmatch(r"([a-z]+);dur=([0-9]+\.[0-9]+)", part).groups() for part in parts]
    assert len(dict(pairs)) == len(pairs)
    return {stage: float(duration) for stage, duration in pairs}


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
def test_every_response_has_an_id_and_its_total_time(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])
    assert timings(response).keys() == {"total"}


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
def test_every_response_echoes_the_id_that_was_sent(client, method, path, status):
    response = client.request(method, path, headers={"X-Request-ID": "trace-7:a/b=c.d_e+f@g"})
    assert response.headers.get_list("x-request-id") == ["trace-7:a/b=c.d_e+f@g"]


UNLISTED = [
    "/",
    "/docs",
    "/openapi.json",
    "/web/app.js",
    "/docs/scene.jpg",
    "/static-offline-docs/swagger-ui.css",
    "/no",
]


def test_head_is_answered_wherever_get_is_without_the_body(client):
    paths = client.get("/openapi.json").json()["paths"]
    listed = [path.replace("{name}", "scenes") for path, operations in paths.items() if "get" in operations]
    assert {"/models/scenes", "/readyz", "/metrics"} <= set(listed)
    for path in listed + UNLISTED:
        full, head = client.get(path), client.head(path)
        assert head.content == b""
        assert (head.status_code, head.headers["content-type"]) == (full.status_code, full.headers["content-type"])
        if path not in ("/metrics", "/no"):  # whose bodies differ from one time to the next
            assert head.headers["content-length"] == full.headers["content-length"]
    assert client.head("/predict").status_code == 405
    counted = {"endpoint": "/models/{name}", "status": "200"}
    until(lambda: value(client, "gradcam_requests_total", **counted) >= 2)
    assert not any("head" in operations for operations in paths.values())


def test_ids_differ_where_none_is_sent(client):
    assert len({client.get("/livez").headers["x-request-id"] for _ in range(20)}) == 20


@pytest.mark.parametrize("given", HOSTILE)
def test_an_id_that_is_long_or_odd_is_replaced(client, given):
    answer = client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer)


def test_an_id_of_128_characters_is_not_too_long(client):
    assert client.get("/livez", headers={"X-Request-ID": "x" * 128}).headers["x-request-id"] == "x" * 128


def test_the_id_is_in_the_body_of_answers_and_problems_too(client, png):
    headers = {"X-Request-ID": "mine", "Content-Type": "image/png"}
    assert client.post("/explain", content=png, headers=headers).json()["request_id"] == "mine"
    assert client.post("/explain", content=b"?", headers=headers).json()["request_id"] == "mine"
    assert client.get("/models/nope", headers=headers).json()["request_id"] == "mine"


def test_a_prediction_tells_its_stages_in_ms(client, png):
    seen = timings(ask(client, "/predict", png, model="resnet18"))
    assert list(seen) == ["read", "decode", "queue", "forward", "total"]
    assert sum(seen.values()) <= 2 * seen["total"] + 0.05  # no stage is longer than the whole, nor all together
    assert seen["forward"] > 0.5  # ResNet-18 in less than that, on any CPU, would not be milliseconds


def test_an_explanation_tells_the_gradient_and_the_rendering_too(client, png):
    seen = timings(ask(client, "/explain", png, model="resnet18", output="overlay"))
    assert list(seen) == ["read", "decode", "queue", "forward", "backward", "render", "total"]
    assert sum(seen.values()) <= 2 * seen["total"] + 0.05
    assert seen["decode"] > 0
    assert seen["backward"] > 0
    assert seen["render"] > 0


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/models", "application/json"),
        ("/models/scenes", "application/json"),
        ("/livez", "application/json"),
        ("/healthz", "application/json"),
        ("/openapi.json", "application/json"),
        ("/metrics", "text/plain"),
        ("/docs", "text/html"),
        ("/docs/scene.jpg", "image/jpeg"),
        ("/docs/camera.jpg", "image/jpeg"),
        ("/docs/coffee.jpg", "image/jpeg"),
        ("/docs/cat.jpg", "image/jpeg"),
    ],
)
def test_each_path_has_its_content_type(client, path, media_type):
    assert client.get(path).headers["content-type"].partition(";")[0] == media_type
