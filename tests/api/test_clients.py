"""What clients of every language send by default is read, byte for byte as they write it."""

import pytest

from .calls import encoded, photo
from .raw import chunked, part, request, responses

PICTURE = encoded(photo(120, 90), "JPEG")
JPEG = "Content-Type: image/jpeg"
FORM = "Content-Type: multipart/form-data; boundary=x"
IN_FORM = part(['Content-Disposition: form-data; name="image"; filename="a.jpg"'], PICTURE) + b"--x--\r\n"
OFFER = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
"""What Java's HttpClient sends with its first request, and `curl --http2` with every one."""
SOCKET = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: eA==",
]

SENT = {  # name → what is sent, the number of answers
    "plain": (request(PICTURE, JPEG), 1),
    "an offer of h2c": (request(PICTURE, JPEG, *OFFER), 1),
    "an offer of h2c in a form": (request(IN_FORM, FORM, *OFFER), 1),
    "an offer of h2c in chunks": (chunked(PICTURE, JPEG, *OFFER), 1),
    "an offer of h2c, then another request": (request(PICTURE, JPEG, *OFFER) + request(PICTURE, JPEG), 2),
    "offers of h2c, one after the other": (request(PICTURE, JPEG, *OFFER) * 3 + chunked(PICTURE, JPEG, *OFFER), 4),
    "an offer of h2c on the way out": (request(PICTURE, JPEG, "Connection: close, Upgrade", "Upgrade: h2c"), 1),
    "an offer of a WebSocket": (request(PICTURE, JPEG, *SOCKET), 1),
    "an offer of TLS": (request(PICTURE, JPEG, "Connection: upgrade", "Upgrade: TLS/1.0"), 1),
    "an offer in HTTP/1.0": (
        request(PICTURE, JPEG, "Connection: upgrade", "Upgrade: h2c", line="POST /predict?top_k=1 HTTP/1.0"),
        1,
    ),
    "an offer that comes to nothing by itself": (request(PICTURE, JPEG, "Upgrade: h2c"), 1),
}


@pytest.fixture(scope="module")
def expected(client):
    return client.post("/predict?top_k=1", files={"image": PICTURE}).json()["results"]


def same(body, expected):
    """Whether the answer is the one expected but for the last digits, in which runtimes may differ."""
    (ours,), (theirs,) = (results[0]["predictions"] for results in (body["results"], expected))
    return ours["label"] == theirs["label"] and ours["logit"] == pytest.approx(theirs["logit"], abs=1e-3)


@pytest.mark.parametrize("name", SENT)
def test_what_a_client_sends_is_answered(client, expected, name):
    sent, count = SENT[name]
    for status, _, body in responses(client, sent, count):
        assert status == 200, body
        assert same(body, expected)


def test_an_offer_is_ignored_on_a_get_too(client):
    asked = request(b"", *SOCKET, line="GET /livez HTTP/1.1") + request(b"", *OFFER, line="GET /livez HTTP/1.1")
    assert [(status, body) for status, _, body in responses(client, asked, 2)] == [(200, {"status": "ok"})] * 2


def test_a_service_is_no_proxy(client):
    ((status, _, body),) = responses(client, b"CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n")
    assert (status, body["code"]) == (400, "malformed")
