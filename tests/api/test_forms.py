"""Three forms of the same question have the same answer."""

import base64
import json
import textwrap

import pytest

from .calls import BINARY, answered, ask, base64_of, encoded, photo, problem

OPTIONS = {"model": "resnet18", "top_k": 7}


@pytest.fixture(scope="module")
def jpegs():
    pictures = [encoded(photo(300 + 40 * n, 200, seed=n), "JPEG", quality=90) for n in range(3)]
    return [picture + bytes(2 - len(picture) % 3) for picture in pictures]  # so that base64 has padding


@pytest.fixture(scope="module")
def each(client, jpegs):
    """Each picture's result, asked for by itself."""
    return [answered(ask(client, "/predict", jpeg, **OPTIONS))["results"][0] for jpeg in jpegs]


def same(result, expected):
    """Whether two results agree but for the last bits, in which a batch of another size may differ."""
    pairs = list(zip(result["predictions"], expected["predictions"], strict=True))
    return all(a["label"] == b["label"] and a["logit"] == pytest.approx(b["logit"], abs=1e-4) for a, b in pairs)


def test_different_pictures_have_different_answers(each):
    assert not same(each[0], each[1])
    assert not same(each[1], each[2])


def test_an_answer_has_exactly_the_documented_members(client, jpegs):
    response = ask(client, "/predict", jpegs[0], **OPTIONS)
    body = answered(response)
    assert body.keys() == {"request_id", "model", "results"}
    assert body["request_id"] == response.headers["x-request-id"]
    card = client.get("/models/resnet18").json()
    digest = card["digest"]
    known = {"name": "resnet18", "version": "1", "digest": digest, "weights": "random:0", "precision": "float32"}
    assert body["model"] == known | {"runtime": card["runtime"]}
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 64
    (result,) = body["results"]
    assert result.keys() == {"predictions"}
    for prediction in result["predictions"]:
        assert prediction.keys() == {"index", "label", "logit", "probability"}


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "application/octet-stream", "IMAGE/JPEG; x=y"])
def test_a_raw_body_is_a_picture_whatever_its_type_claims(client, jpegs, each, media_type):
    response = client.post("/predict", content=jpegs[0], headers={"Content-Type": media_type}, params=OPTIONS)
    assert same(answered(response)["results"][0], each[0])


def test_a_raw_body_may_come_in_chunks_of_unknown_number(client, jpegs, each):
    chunks = (jpegs[0][start : start + 1000] for start in range(0, len(jpegs[0]), 1000))
    response = client.post("/predict", content=chunks, headers=BINARY, params=OPTIONS)
    assert same(answered(response)["results"][0], each[0])


@pytest.mark.parametrize(
    "write",
    [
        base64_of,
        lambda data: "data:image/jpeg;base64," + base64_of(data),
        lambda data: "data:;base64," + base64_of(data),
        lambda data: base64.encodebytes(data).decode("ascii"),
        lambda data: "\r\n".join(textwrap.wrap(base64_of(data), 64)) + "\r\n",
        lambda data: base64_of(data).rstrip("="),
        lambda data: base64.urlsafe_b64encode(data).decode("ascii"),
        lambda data: base64.urlsafe_b64encode(data).decode("ascii").rstrip("="),
        lambda data: " \n\t" + base64_of(data) + " \n",
        lambda data: "\n Data:Image/JPEG;BASE64, \n" + base64_of(data).rstrip("="),
        lambda data: "data:image/jpeg;name=a.jpg;charset=utf-8;base64," + base64_of(data),
    ],
    ids=[
        *("base64", "data URI", "data URI without a type", "MIME base64", "base64 with CRLF", "no padding", "url-safe"),
        *("url-safe without padding", "blanks around", "a data URI in capitals", "a data URI with parameters"),
    ],
)
def test_json_holds_a_picture_as_base64(client, jpegs, each, write):
    response = client.post("/predict", json={"image": write(jpegs[0]), **OPTIONS})
    assert same(answered(response)["results"][0], each[0])


def test_json_may_begin_with_a_byte_order_mark(client, jpegs, each):
    body = b"\xef\xbb\xbf" + json.dumps({"image": base64_of(jpegs[0]), **OPTIONS}).encode()
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert same(answered(response)["results"][0], each[0])


def test_json_holds_several_pictures_answered_in_their_order(client, jpegs, each):
    response = client.post("/predict", json={"images": [base64_of(jpeg) for jpeg in jpegs], **OPTIONS})
    results = answered(response)["results"]
    assert [same(*pair) for pair in zip(results, each, strict=True)] == [True] * 3


def test_a_list_of_one_picture_has_one_result(client, jpegs, each):
    (result,) = answered(client.post("/predict", json={"images": [base64_of(jpegs[1])], **OPTIONS}))["results"]
    assert same(result, each[1])


def test_multipart_holds_one_picture_and_options_as_fields(client, jpegs, each):
    response = client.post("/predict", files={"image": ("a.jpg", jpegs[0], "image/jpeg")}, data=OPTIONS)
    assert [same(*pair) for pair in zip(answered(response)["results"], each[:1], strict=True)] == [True]


def test_multipart_holds_several_pictures_answered_in_their_order(client, jpegs, each):
    parts = [("image", (f"{n}.jpg", jpeg)) for n, jpeg in enumerate(jpegs)]
    results = answered(client.post("/predict", files=parts, data=OPTIONS))["results"]
    assert [same(*pair) for pair in zip(results, each, strict=True)] == [True] * 3


def test_options_in_the_query_go_with_every_form(client, jpegs, each):
    as_json = client.post("/predict", json={"image": base64_of(jpegs[0])}, params=OPTIONS)
    as_multipart = client.post("/predict", files={"image": jpegs[0]}, params=OPTIONS)
    assert same(answered(as_json)["results"][0], each[0])
    assert same(answered(as_multipart)["results"][0], each[0])


def test_repeated_options_mean_the_same_in_every_form(client, jpegs):
    target, output = [7, "goldfish", "3"], ["map", "heatmap"]
    options = {"model": "resnet18", "target": target, "output": output, "boxes": True, "alpha": 0.25}
    asked = [
        ask(client, "/explain", jpegs[0], **options),
        client.post("/explain", json={"image": base64_of(jpegs[0]), **options}),
        client.post("/explain", files={"image": jpegs[0]}, data=options | {"target": ["7", "goldfish", "3"]}),
    ]
    explained = [answered(response)["results"][0]["explanations"] for response in asked]
    assert [e["target"]["index"] for e in explained[0]] == [7, 1, 3]
    assert explained[0] == explained[1] == explained[2]


def test_the_parameter_names_of_a_content_type_are_not_case_sensitive(client, jpegs, each):
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + jpegs[0] + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; Boundary=x"}
    response = client.post("/predict", content=body, headers=headers, params=OPTIONS)
    assert same(answered(response)["results"][0], each[0])


@pytest.mark.parametrize("rest", [b"", b"\r\n--x", b"\r\n--x--"], ids=["nothing", "half a delimiter", "its end"])
def test_a_multipart_body_cut_short_loses_no_picture_silently(client, jpegs, rest):
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    whole = part + jpegs[0] + b"\r\n" + part + jpegs[1] + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert len(answered(client.post("/predict", content=whole, headers=headers))["results"]) == 2
    cut = whole[: whole.index(jpegs[1]) + 500] + rest
    response = client.post("/predict", content=cut, headers=headers)
    if rest.endswith(b"--"):  # a sound body whose second picture is damaged
        results = answered(response)["results"]
        assert results[0].keys() == {"predictions"}
        assert results[1]["error"]["code"] == "undecodable_image"
    else:
        assert problem(response, 400, "malformed")
