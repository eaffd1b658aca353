"""Pages of other origins, as browsers ask for them: https://fetch.spec.whatwg.org/#http-cors-protocol."""

import pytest
from PIL import Image

from gradcam_service.settings import Settings

from .calls import BINARY, encoded

ORIGIN = "https://app.example.com"
PNG = encoded(Image.new("RGB", (40, 30), (200, 30, 90)), "PNG")
SENT = "authorization,content-encoding,content-type,traceparent,x-request-id"


def preflight(client, origin, method="POST", headers=SENT):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return client.options("/explain", headers=asked)


def listed(response, header):
    return {name.strip().lower() for name in response.headers[header].split(",")}


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "HEAD"])
def test_a_page_of_a_named_origin_may_send_what_the_api_reads(limited, origin, method):
    response = preflight(limited.client, origin, method)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert method.lower() in listed(response, "access-control-allow-methods")
    assert set(SENT.split(",")) <= listed(response, "access-control-allow-headers")
    assert "origin" in listed(response, "vary")


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://app.example.com", ORIGIN + ".evil.com", "null"])
def test_a_page_of_another_origin_may_not(limited, origin):
    assert "access-control-allow-origin" not in preflight(limited.client, origin).headers
    response = limited.client.post("/predict", content=PNG, headers=BINARY | {"Origin": origin})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        *(("/predict", PNG, 200), ("/predict", b"a", 422), ("/predict", b"", 400), ("/nothing", PNG, 404)),
        *(("/predict", bytes(200_001), 413), ("/predict?model=nothing", PNG, 404)),
    ],
)
def test_a_page_may_read_answers_and_errors_with_their_headers(limited, path, body, status):
    response = limited.client.post(path, content=body, headers=BINARY | {"Origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    exposed = listed(response, "access-control-expose-headers")
    assert {"retry-after", "server-timing", "www-authenticate", "x-request-id"} <= exposed
    assert "access-control-allow-credentials" not in response.headers


def test_without_origins_that_are_named_no_page_may(client):
    assert "access-control-allow-origin" not in preflight(client, ORIGIN).headers
    response = client.post("/predict", content=PNG, headers=BINARY | {"Origin": ORIGIN})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "app.example.com",
            "https://a.com/",
            "https://a.com/b",
            "ftp://a.com",
            "**",
            "https://a.com:",
            "https://a.com:b",
        ),
        *("https://*.example.com", "https://*", "https://a.com:443", "HTTP://a.com:80", "https://b\u00fccher.example"),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(origin):
    with pytest.raises(ValueError, match="is no origin"):
        Settings(cors_origins=origin)


@pytest.mark.parametrize(
    "origin", ["*", "HTTPS://A.com", "https://a.com:8443", "http://a.com:443", "http://[::1]:3000", "http://127.0.0.1"]
)
def test_what_browsers_write_is_an_origin(origin):
    assert Settings(cors_origins=origin).cors_origins == (origin.lower(),)
