"""What is wrong with a request is answered by a problem that says so, and never by a 500."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

from .calls import answered, ask, base64_of, encoded, problem

PNG = encoded(Image.new("RGB", (40, 30), (200, 30, 90)), "PNG")
JPEG = encoded(Image.effect_noise((64, 64), 60), "JPEG")
IN_JSON = base64_of(PNG)
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + PNG + b"\r\n"
MULTIPART = "multipart/form-data; boundary=x"

MALFORMED = {  # name → content type, body, a part of the detail
    "no body": ("image/png", b"", "no image"),
    "no body at all in JSON": ("application/json", b"", "not JSON"),
    "no body in multipart": (MULTIPART, b"", "no image"),
    "broken JSON": ("application/json", b'{"image": "abc', "not JSON"),
    "JSON with a stray NaN": ("application/json", b'{"image": NaN}', "not JSON"),
    "JSON in UTF-16": ("application/json", json.dumps({"image": IN_JSON}).encode("utf-16"), "UTF-8 would work"),
    "JSON in UTF-16 without a mark": ("application/json", json.dumps({"image": IN_JSON}).encode("utf-16-be"), "UTF-8"),
    "JSON in UTF-32": ("application/json", json.dumps({"image": IN_JSON}).encode("utf-32-le"), "UTF-8 would work"),
    "JSON in another encoding": ("application/json", '{"image": "é"}'.encode("latin-1"), "not JSON"),
    "a JSON array": ("application/json", b"[]", "object"),
    "a JSON string": ("application/json", b'"image"', "object"),
    "JSON nested very deep": ("application/json", b'{"image":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    "neither image nor images": ("application/json", b"{}", "image"),
    "both image and images": ("application/json", json.dumps({"image": IN_JSON, "images": [IN_JSON]}), "either"),
    "images not a list": ("application/json", json.dumps({"images": IN_JSON}), "list"),
    "image misspelt": ("application/json", json.dumps({"img": IN_JSON}), "did you mean that by 'img'?"),
    "a URL as image": ("application/json", b'{"image": "https://example.org/a.jpg"}', "URLs are not fetched"),
    "a URL among images": ("application/json", b'{"images": ["s3://bucket/key"]}', '"images"[0] is a URL'),
    "images empty": ("application/json", b'{"images": []}', "no image"),
    "a number as image": ("application/json", b'{"image": 7}', "string"),
    "null as image": ("application/json", b'{"image": null}', "string"),
    "a number among images": ("application/json", json.dumps({"images": [IN_JSON, 7]}), '"images"[1]'),
    "an empty image": ("application/json", b'{"image": ""}', "no image"),
    "bad base64": ("application/json", b'{"image": "!!!!"}', "base64"),
    "base64 without its padding": ("application/json", b'{"image": "YWJjZ"}', "padding"),
    "base64 with padding amid": ("application/json", b'{"image": "YW==YWJj"}', "padding"),
    "base64 with much padding": ("application/json", b'{"image": "YWJj===="}', "padding"),
    "base64 with other letters": ("application/json", b'{"image": "YW.j"}', "- and _"),
    "a data URI without a comma": ("application/json", b'{"image": "data:image/png;base64"}', "base64"),
    "a data URI without base64": ("application/json", b'{"image": "data:image/png,abc"}', "base64"),
    "multipart without a boundary": ("multipart/form-data", PART + b"--x--\r\n", "boundary"),
    "multipart with another boundary": ("multipart/form-data; boundary=y", PART + b"--x--\r\n", "multipart"),
    "multipart garbage": (MULTIPART, b"garbage" * 100, "multipart"),
    "multipart without a picture": (MULTIPART, b"--x--\r\n", "no image"),
    "a part without a name": (MULTIPART, b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", "name"),
    "a text part named image": (
        MULTIPART,
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\na\r\n--x--\r\n',
        "file parts",
    ),
    "a URL in a part named image": (
        MULTIPART,
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nhttps://example.org/a.jpg\r\n--x--\r\n',
        "URLs are not fetched",
    ),
    "a file part named file": (MULTIPART, PART.replace(b'"image"', b'"file"') + b"--x--\r\n", "-F image=@photo.jpg"),
    "a file part not named image": (MULTIPART, PART.replace(b'"image"', b'"photo"') + b"--x--\r\n", "'photo'"),
    "a huge field": (MULTIPART, PART + PART.replace(b'; filename="a"', b"").replace(PNG, b"1" * 2**21), ""),
    "a thousand fields": (
        MULTIPART,
        PART + PART.replace(b'"image"; filename="a"', b'"target"').replace(PNG, b"1") * 1000 + b"--x--\r\n",
        "",
    ),
}

UNDECODABLE = {  # name → what is sent as an image, a part of the detail
    "text": (b"hello there", "text"),
    "a URL": (b"https://example.org/cat.jpg?size=large\n", "URLs are not fetched; send the bytes"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "PDF": (b"%PDF-1.7\n" + bytes(100), "PDF"),
    "noise": (np.random.default_rng(0).bytes(500), "JPEG, PNG"),
    "zeros": (bytes(1000), "JPEG, PNG"),
    "a truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "a truncated PNG": (PNG[:60], "PNG"),
    "a header alone": (PNG[:33], "PNG"),
}


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_a_400_that_says_what_is_wrong(client, path, name):
    media_type, body, part = MALFORMED[name]
    response = client.post(path, content=body, headers={"Content-Type": media_type})
    assert part in problem(response, 400, "malformed")


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/xml", "video/mp4", "multipart/mixed", "///"],
)
def test_a_content_type_that_carries_no_image_is_a_415_that_says_which_do(client, media_type):
    response = client.post("/predict", content=PNG, headers={"Content-Type": media_type})
    detail = problem(response, 415, "unsupported_media_type")
    assert {"multipart/form-data", "application/json", "application/octet-stream"} <= set(
        detail.replace(",", " ").split()
    )
    assert media_type in detail
    assert "URLs are not fetched" in detail


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "aes128gcm"])
def test_another_content_encoding_is_a_415_that_says_which_are_read(client, coding):
    headers = {"Content-Type": "image/png", "Content-Encoding": coding}
    detail = problem(client.post("/predict", content=PNG, headers=headers), 415, "unsupported_media_type")
    assert f"{coding!r} is not read; gzip, deflate" in detail


ZIPPED = gzip.compress(PNG)


@pytest.mark.parametrize(
    "body",
    [PNG, ZIPPED[:-9], ZIPPED[:50], ZIPPED + b"more"],
    # names of their own, as the time is in what is zipped, and test processes must agree on names
    ids=["not compressed", "no checksum", "half", "more than that"],
)
def test_what_is_not_in_its_content_encoding_is_a_400(client, body):
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    assert "encoding gzip" in problem(client.post("/predict", content=body, headers=headers), 400, "malformed")


@pytest.mark.parametrize("name", UNDECODABLE)
def test_bytes_that_are_no_picture_are_a_422_that_says_what_they_look_like(client, name):
    data, part = UNDECODABLE[name]
    assert part in problem(ask(client, "/predict", data), 422, "undecodable_image")
    as_json = client.post("/explain", json={"image": base64_of(data)})
    assert part in problem(as_json, 422, "undecodable_image")


def test_of_several_images_a_bad_one_has_an_error_and_the_others_their_answers(client):
    images = [PNG, b"hello there", JPEG, JPEG[: len(JPEG) // 2]]
    body = answered(client.post("/explain", json={"images": [base64_of(data) for data in images], "output": "map"}))
    good, bad = body["results"][::2], body["results"][1::2]
    for result in good:
        assert result.keys() == {"predictions", "explanations"}
    for result in bad:
        assert result.keys() == {"error"}
        assert (result["error"]["status"], result["error"]["code"]) == (422, "undecodable_image")
        assert result["error"]["request_id"] == body["request_id"]
    assert "text" in bad[0]["error"]["detail"]
    assert "truncated" in bad[1]["error"]["detail"]


def test_if_all_images_are_bad_the_response_is_the_error(client):
    response = client.post("/predict", files=[("image", b"hello"), ("image", b"there")])
    assert "text" in problem(response, 422, "undecodable_image")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_another_method_is_a_405_that_names_the_right_one(client, path, method):
    response = client.request(method, path)
    assert f"{path}: Method Not Allowed, POST would work" in problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/nothing", "/predict/scenes", "//predict", "/predictable", "/v1x", "/%ff%00"])
def test_a_path_that_is_not_there_is_a_404_that_says_where_to_look(client, path):
    response = client.post(f"{client.base_url!s}".rstrip("/") + path)
    assert "/docs" in problem(response, 404, "no_such_path")


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/explian", "/explain"), ("/prediction", "/predict"), ("/model", "/models"), ("/health", "/healthz")],
)
def test_a_path_that_is_nearly_right_is_told_the_one_that_was_meant(client, path, meant):
    assert f"(did you mean {meant!r}?)" in problem(client.post(path), 404, "no_such_path")


def test_what_curl_says_of_a_picture_is_told_what_says_more(client):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    detail = problem(client.post("/predict", content=PNG, headers=headers), 415, "unsupported_media_type")
    assert "-T photo.jpg" in detail


def test_a_deadline_of_a_millisecond_is_a_504(client):
    large = encoded(Image.new("RGB", (4000, 4000)), "PNG")  # takes longer to decode on any machine
    response = ask(client, "/predict", large, timeout_ms=1)
    assert "a longer timeout would help" in problem(response, 504, "deadline_exceeded")
    assert answered(ask(client, "/predict", large, timeout_ms=60_000))
