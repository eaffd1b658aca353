"""What a request may cost the API process, asked of a running service."""

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from contextlib import ExitStack

import msgspec
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from gradcam_service import naming
from gradcam_service.api import bodies, multipart
from gradcam_service.api.base64_text import decode_base64
from gradcam_service.api.encodings import decoded
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import PredictOptions
from gradcam_service.errors import BadRequest, TooLarge
from gradcam_service.naming import nearest
from gradcam_service.settings import Settings
from live import until

from .calls import BINARY, announced, answered, ask, base64_of, encoded, in_flight, opened, photo, predict, problem
from .raw import part

SMALL = encoded(photo(40, 30), "PNG")
PADDED = SMALL + bytes(150_000 - len(SMALL))
"""A picture of 150,000 bytes."""


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


def test_base64_of_a_million_blanks_takes_little_memory():
    text = "AA " * 2**20
    tracemalloc.start()
    assert decode_base64(text, "here") == bytes(3 * 2**19)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(text)


@pytest.mark.parametrize("text", ["\u00e9" + "AAAA" * 10, "AAAA\u00a0AAAA", "AAAA\ud800", "AA*A"])
def test_what_are_no_letters_of_base64_is_refused(text):
    with pytest.raises(BadRequest, match="here is not base64, whose letters are"):
        decode_base64(text, "here")


FORM = {"content-type": "multipart/form-data; boundary=x"}


def form(data, *head):
    return part(['Content-Disposition: form-data; name="image"', *head], data) + b"--x--\r\n"


@pytest.mark.parametrize(("size", "thread"), [(1000, "MainThread"), (900_000, "shared_0")])
def test_long_base64_in_a_form_is_decoded_in_its_turn(monkeypatch, size, thread):
    seen = []

    def watched(text, where):
        seen.append(threading.current_thread().name)
        return decode_base64(text, where)

    monkeypatch.setattr(multipart, "decode_base64", watched)
    data = np.random.default_rng(0).bytes(size)
    assert read(FORM, form(base64_of(data).encode()))[0] == [data]
    assert seen == [thread]


@pytest.mark.parametrize(
    "data", [b"BM" + b"~" * 4 + bytes(4) + b"~" * 90, bytes(128) + b"DICM" + b"~" * 300, b"GIF87a~~"]
)
def test_a_part_of_ascii_letters_that_is_a_picture_is_no_base64(data):
    assert data.isascii()
    assert read(FORM, form(data))[0] == [data]


@pytest.mark.parametrize("media_type", ["image/x-portable-pixmap", "application/octet-stream", "Application/DICOM"])
def test_a_part_whose_type_is_that_of_a_picture_is_no_base64(media_type):
    assert read(FORM, form(b"P3 1 1 255 0 0 0", f"Content-Type: {media_type}"))[0] == [b"P3 1 1 255 0 0 0"]


@pytest.mark.parametrize(("size", "thread"), [(1000, "MainThread"), (900_000, "shared_0")])
def test_long_json_is_read_off_the_event_loop(monkeypatch, size, thread):
    seen = []
    decode = msgspec.json.decode

    def watched(body):
        seen.append(threading.current_thread().name)
        return decode(body)

    monkeypatch.setattr(msgspec.json, "decode", watched)
    data = np.random.default_rng(0).bytes(size)

    head = {"content-type": "application/json"}
    assert read(head, json.dumps({"image": base64_of(data)}).encode())[0] == [data]
    assert seen == [thread]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("number", [2, 10, 95_000])
def test_few_members_of_json_are_compared_with_image_and_the_first_like_it_is_told(monkeypatch, number):
    compared = []

    def counted(written, names, *likeness):
        compared.append(written)
        return nearest(written, names, *likeness)

    monkeypatch.setattr(naming, "nearest", counted)
    unlike = [f"{place}" for place in range(number)]
    with pytest.raises(BadRequest, match="did you mean that by 'imgae'") as caught:
        read(JSON, json.dumps(dict.fromkeys(["top_k", "imgae", "img", *unlike])).encode())
    assert "'img'" not in caught.value.detail
    assert compared == ["top_k", "imgae"]
    with pytest.raises(BadRequest, match=r"those of one$"):
        read(JSON, json.dumps(dict.fromkeys([*unlike])).encode())
    assert len(compared) == 2 + min(number, 20)


def test_images_are_counted_before_any_is_decoded():
    with pytest.raises(TooLarge, match="33 images in one request; at most 32"):
        read(JSON, json.dumps({"images": ["!!!!"] * 33}).encode())


def read(headers, body, **given):
    """The images that are read from a body, and the bytes that are held of the process's capacity for them."""

    async def reading():
        settings = Settings(cpus=1, **given)
        capacity = Capacity(settings)
        chunk = {"type": "http.request", "body": body}

        async def receive():
            return chunk

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request({"type": "http", "headers": raw, "query_string": b""}, receive)
        with capacity.admit() as admission:
            call = await bodies.read_call(request, PredictOptions, settings, admission)
            return call.images, capacity.all_bytes - capacity.bytes

    return asyncio.run(reading())


def test_what_a_compressed_body_holds_is_held_of_the_bytes_in_flight():
    data = bytes(1_000_000)
    headers = {"content-type": "image/png", "content-encoding": "gzip", "content-length": "1000"}
    assert read(headers, gzip.compress(data)) == ([data], len(data))


def inflated(chunks, coding):
    """The pieces of a compressed body."""

    async def sent():
        for chunk in chunks:
            yield chunk

    async def pieces():
        return [piece async for piece in decoded(sent(), coding)]

    return asyncio.run(pieces())


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18, 1_000_003])
@pytest.mark.parametrize("fill", ["noise", "zeros"])
@pytest.mark.parametrize("step", [1, 7, 60_000, 10**7])
def test_a_compressed_body_is_what_it_was_in_whatever_chunks_it_comes(size, fill, step):
    data = bytes(size) if fill == "zeros" else np.random.default_rng(size).bytes(min(size, 3000))
    raw = zlib.compressobj(wbits=-15)
    forms = [
        ("gzip", gzip.compress(data)),
        ("gzip", gzip.compress(data[:1000]) + gzip.compress(b"") + gzip.compress(data[1000:])),
        ("deflate", zlib.compress(data)),
        ("deflate", raw.compress(data) + raw.flush()),
    ]
    for coding, body in forms:
        pieces = inflated((body[start : start + step] for start in range(0, len(body), step)), coding)
        assert b"".join(pieces) == data
        assert max(map(len, pieces), default=0) <= 2**18


def test_empty_members_of_gzip_leave_others_their_turn():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def sent():
        yield gzip.compress(b"") * 500

    async def reading():
        waiting = asyncio.create_task(others())
        pieces = [piece async for piece in decoded(sent(), "gzip")]
        waiting.cancel()
        return pieces

    assert asyncio.run(reading()) == []
    assert turns >= 500


def test_a_body_is_no_larger_than_the_limit_however_little_it_holds():
    headers = {"content-type": "image/png", "content-encoding": "gzip"}
    with pytest.raises(TooLarge, match="10000 bytes"):
        read(headers, gzip.compress(b"") * 600, max_body_bytes=10_000)
    members = gzip.compress(b"") * 400 + gzip.compress(SMALL)
    assert read(headers, members, max_body_bytes=len(members))[0] == [SMALL]


def test_a_small_body_that_holds_a_large_one_is_refused_before_it_is_decoded(limited):
    bomb = gzip.compress(bytes(150 * 2**20))  # of 150 kB
    for media_type in ("application/json", "multipart/form-data; boundary=x", "image/png"):
        headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
        response = limited.client.post("/predict", content=bomb, headers=headers)
        assert "200000 bytes" in problem(response, 413, "too_large")
    assert predict(limited.client, SMALL)
