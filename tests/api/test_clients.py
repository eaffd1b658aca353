"""What clients of every language send by default is read, byte for byte as they write it."""

import base64
import gzip
import json
import zlib

import pytest

from .calls import encoded, photo
from .raw import chunked, part, request, responses

PICTURE = encoded(photo(120, 90), "JPEG")
JPEG = "Content-Type: image/jpeg"
FORM = "Content-Type: multipart/form-data; boundary=x"
IN_FORM = part(['Content-Disposition: form-data; name="image"; filename="a.jpg"'], PICTURE) + b"--x--\r\n"
IN_JSON = json.dumps({"image": base64.b64encode(PICTURE).decode()}).encode()
JSON = "Content-Type: application/json"
HOST = b"Host: here\r\n"
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
    "a body that is promised": (request(PICTURE, JPEG, "Expect: 100-continue"), 1),
    "HTTP/1.0": (request(PICTURE, JPEG, line="POST /predict?top_k=1 HTTP/1.0"), 1),
    "HTTP/1.0 without a host": (request(PICTURE, JPEG, line="POST /predict?top_k=1 HTTP/1.0").replace(HOST, b""), 1),
    "the last request": (request(PICTURE, JPEG, "Connection: close"), 1),
    "an address with its host": (request(PICTURE, JPEG, line="POST http://here:8000/predict?top_k=1 HTTP/1.1"), 1),
    "a slash at the end": (request(PICTURE, JPEG, line="POST /predict/?top_k=1 HTTP/1.1"), 1),
    "PUT": (request(PICTURE, line="PUT /predict?top_k=1 HTTP/1.1"), 1),
    "PUT in chunks": (chunked(PICTURE, line="PUT /predict?top_k=1 HTTP/1.1"), 1),
    "a picture without a type": (request(PICTURE), 1),
    "JSON without a type": (request(b" \r\n" + IN_JSON), 1),
    "JSON with a mark, without a type": (request(b"\xef\xbb\xbf" + IN_JSON), 1),
    "a form without a type": (request(IN_FORM), 1),
    "a type without a value": (request(PICTURE, "Content-Type: "), 1),
    "JSON with a charset": (request(IN_JSON, "content-type: Application/JSON;Charset=UTF-8"), 1),
    "JSON in chunks": (chunked(IN_JSON, JSON), 1),
    "JSON in gzip": (request(gzip.compress(IN_JSON), JSON, "Content-Encoding: gzip"), 1),
    "JSON in gzip, in chunks": (chunked(gzip.compress(IN_JSON), JSON, "content-encoding: GZIP", size=100), 1),
    "JSON in x-gzip": (request(gzip.compress(IN_JSON), JSON, "Content-Encoding: x-gzip"), 1),
    "JSON in deflate": (request(zlib.compress(IN_JSON), JSON, "Content-Encoding: deflate"), 1),
    "JSON as it is": (request(IN_JSON, JSON, "Content-Encoding: identity"), 1),
    "a form in gzip": (request(gzip.compress(IN_FORM), FORM, "Content-Encoding: gzip"), 1),
    "a picture in gzip": (request(gzip.compress(PICTURE), JPEG, "Content-Encoding: gzip"), 1),
    "a form in chunks": (chunked(IN_FORM, FORM), 1),
    "a quoted boundary": (request(IN_FORM, 'Content-Type: multipart/form-data; boundary="x"'), 1),
    "a boundary and a charset": (request(IN_FORM, 'content-type: multipart/form-data; charset=utf-8; Boundary="x"'), 1),
    "a form that begins with a line break": (request(b"\r\n" + IN_FORM, FORM), 1),
    "a form that ends without one": (request(IN_FORM[:-2], FORM), 1),
    "more headers": (request(PICTURE, JPEG, "TE: trailers", "Accept-Encoding: gzip, br", "Cookie: a=b", "DNT: 1"), 1),
    "what Java accepts": (request(PICTURE, JPEG, "Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), 1),
    "what Spring accepts": (request(PICTURE, JPEG, "Accept: application/json, application/*+json"), 1),
    "what others accept": (request(PICTURE, JPEG, "Accept: */*, application/json;q=0.9"), 1),
    "two headers of what is accepted": (request(PICTURE, JPEG, "Accept: text/plain", "Accept: application/json"), 1),
}
PARTS = {  # name → the head of the part that holds the picture, how it is written there
    "a file": (['Content-Disposition: form-data; name="image"; filename="a.jpg"', "Content-Type: image/jpeg"], bytes),
    "names without quotes": (["Content-Disposition: form-data; name=image; filename=a; filename*=utf-8''a"], bytes),
    "names in capitals": (['CONTENT-DISPOSITION: FORM-DATA; NAME="image"; FILENAME="A.JPG"'], bytes),
    "an Image": (['Content-Disposition: form-data; name="Image"; filename="a.jpg"'], bytes),
    "one of several, as PHP has it": (['Content-Disposition: form-data; name="image[]"; filename="a.jpg"'], bytes),
    "a filename in UTF-8 alone": (
        ["Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''%C3%A9.jpg"],
        bytes,
    ),
    "a filename of other letters": (['Content-Disposition: form-data; name="image"; filename="é.jpg"'], bytes),
    "an empty filename": (['Content-Disposition: form-data; name="image"; filename=""'], bytes),
    "no filename, a picture": (['Content-Disposition: form-data; name="image"', "Content-Type: image/jpeg"], bytes),
    "no filename, bytes": (
        ['Content-Disposition: form-data; name="image"', "Content-Type: application/octet-stream"],
        bytes,
    ),
    "no filename, no type": (['Content-Disposition: form-data; name="image"'], bytes),
    "said to be binary": (
        ['Content-Disposition: form-data; name="image"; filename="a"', "Content-Transfer-Encoding: binary"],
        bytes,
    ),
    "in base64": (
        ['Content-Disposition: form-data; name="image"; filename="a"', "content-transfer-encoding: BASE64"],
        base64.encodebytes,
    ),
    "a field of base64": (['Content-Disposition: form-data; name="image"'], base64.b64encode),
    "a field of a data URI": (
        ['Content-Disposition: form-data; name="image"', "Content-Type: text/plain; charset=UTF-8"],
        lambda data: b"data:image/jpeg;base64," + base64.b64encode(data),
    ),
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


@pytest.mark.parametrize("name", PARTS)
def test_a_part_named_image_is_the_picture_however_it_is_written(client, expected, name):
    head, write = PARTS[name]
    options = part(['Content-Disposition: form-data; name="top_k"', "Content-Type: text/plain; charset=UTF-8"], b"1")
    sent = request(part(head, write(PICTURE)) + options + b"--x--\r\n", FORM, line="POST /predict HTTP/1.1")
    ((status, _, body),) = responses(client, sent)
    assert status == 200, body
    assert same(body, expected)


def test_an_offer_is_ignored_on_a_get_too(client):
    asked = request(b"", *SOCKET, line="GET /livez HTTP/1.1") + request(b"", *OFFER, line="GET /livez HTTP/1.1")
    assert [(status, body) for status, _, body in responses(client, asked, 2)] == [(200, {"status": "ok"})] * 2


def test_a_service_is_no_proxy(client):
    ((status, _, body),) = responses(client, b"CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n")
    assert (status, body["code"]) == (400, "malformed")
