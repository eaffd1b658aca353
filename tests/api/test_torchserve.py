"""TorchServe's inference API: its bodies, its answers, its errors, and what it does wrong done right."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from exposed import value
from live import until

from .calls import answered, base64_of, encoded, full_queue, opened, photo, values
from .raw import request, responses

PNG = encoded(photo(200, 150), "PNG")
OTHER = encoded(photo(120, 160, seed=1), "PNG")
B64 = base64_of(PNG)
PREDICT, EXPLAIN = "/predictions/scenes", "/explanations/scenes"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODIES = {
    "raw": {"content": PNG},
    "raw with a type": {"content": PNG, "headers": {"Content-Type": "image/png"}},
    "raw, as curl --data-binary says of it": {"content": PNG, "headers": FORM},
    "a form": {"files": {"data": PNG}},
    "a form's body": {"files": {"body": PNG}},
    "a form's only file": {"files": {"photo": ("a.png", PNG)}, "data": {"client": "7"}},
    "a form without a filename": {"files": {"data": (None, PNG), "id": (None, b"a")}},
    "text in a form": {"files": {"data": (None, B64)}},
    "urlencoded": {"data": {"data": B64}},
    "urlencoded, + not escaped": {"content": b"data=" + B64.encode(), "headers": FORM},
    "JSON": {"json": {"data": B64}},
    "JSON of another name": {"json": {"image": {"b64": B64}, "id": 7}},
    "JSON without a type": {"content": json.dumps({"data": B64}).encode()},
}


def told(response):
    """The body of an answer."""
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    return response.json()


def refused(response, status, kind):
    """The message of an error."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    body = response.json()
    assert body.keys() == {"code", "type", "message"}
    assert (body["code"], body["type"]) == (status, kind)
    return body["message"]


@pytest.fixture(scope="module")
def native(client):
    """The native answers to `PNG` and `OTHER`."""
    body = {"images": [B64, base64_of(OTHER)], "output": "map"}
    return answered(client.post("/explain", json=body))["results"]


def named(result):
    return {each["label"]: pytest.approx(each["probability"], abs=1e-6) for each in result["predictions"]}


def at_input_size(explanation):
    """By torch: the map stretched over the 128×128 pixels that the model sees."""
    cam = torch.from_numpy(values(explanation["map"]).copy())[None, None]
    return torch.nn.functional.interpolate(cam, (128, 128), mode="bilinear", align_corners=False)[0, 0].numpy()


def same(told_map, explanation):
    expected = at_input_size(explanation)
    return np.shape(told_map) == (128, 128) and np.abs(told_map - expected).max() <= 1e-6 * expected.max()


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("name", BODIES)
def test_every_body_is_read_and_the_top_five_are_told_by_name(client, native, name, method):
    assert told(client.request(method, PREDICT, **BODIES[name])) == named(native[0])


def test_the_map_is_the_native_one_at_the_size_of_the_input(client, native):
    assert same(told(client.put(EXPLAIN, content=PNG)), native[0]["explanations"][0])


def test_the_maps_of_many_targets_are_sent_while_they_are_written(client):
    body = {"images": [B64], "output": "map", "target": list(range(8))}
    (result,) = answered(client.post("/explain", json=body))["results"]
    response = client.put(EXPLAIN, content=PNG, params={"target": list(range(8))})
    assert "content-length" not in response.headers
    assert all(same(each, own) for each, own in zip(told(response), result["explanations"], strict=True))


def test_several_pictures_are_a_list_and_each_is_explained_for_its_own_best_class(client, native):
    files = [("data", PNG), ("data", b"no picture"), ("data", OTHER)]
    first, wrong, last = told(client.post(PREDICT, files=files))
    assert [first, last] == [named(result) for result in native]
    assert wrong["error"]["type"] == "BadRequestException"
    assert wrong["error"]["message"].startswith("undecodable_image: ")
    first, wrong, last = told(client.post(EXPLAIN, files=files))
    assert wrong["error"]["code"] == 400
    assert same(first, native[0]["explanations"][0])
    assert same(last, native[1]["explanations"][0])


def test_each_instance_of_a_batch_has_its_own_target(client):
    targets = [{"target": 0}, {"target": "square"}, {}]
    each = [{"data": B64, **target} for target in [*targets, {"target": "dragon"}]]
    maps = told(client.post(EXPLAIN, json={"instances": each}))["explanations"]
    assert "unknown_target: " in maps.pop()["error"]["message"]
    alone = [told(client.post(EXPLAIN, content=PNG, params=target)) for target in targets]
    np.testing.assert_allclose(maps, alone, atol=1e-6 * np.max(alone))
    assert len({json.dumps(each) for each in alone}) == 3
    by_form = told(client.post(EXPLAIN, files={"data": PNG}, data={"target": "square"}))
    np.testing.assert_allclose(by_form, alone[1], atol=1e-6 * np.max(alone))


def test_the_envelope_is_answered_in_an_envelope(client, native):
    body = {"instances": [{"data": B64}, {"b64": "!"}]}
    good, wrong = told(client.post(PREDICT, json=body))["predictions"]
    assert good == named(native[0])
    assert "is not base64" in wrong["error"]["message"]
    body = {"instances": [{"data": B64, "method": "gradcam++"}, {"data": B64}]}
    wrong, good = told(client.post(EXPLAIN, json=body))["explanations"]
    assert wrong["error"]["message"].startswith("unsupported_method: ")
    assert same(good, native[0]["explanations"][0])


def test_an_option_of_all_is_refused_where_one_picture_has_it(client, native):
    for own in ({"output": "overlay"}, {"timeout_ms": 5000}):
        for of_all in ({}, {"parameters": {"output": "json"}}):
            body = {"instances": [{"data": B64, **own}, {"data": B64}], **of_all}
            body = told(client.post(EXPLAIN, json=body))
            wrong, good = body["results" if of_all else "explanations"]
            assert f"{next(iter(own))} is an option of " in str(wrong["error"])
            assert of_all or same(good, native[0]["explanations"][0])
    late = client.post(PREDICT, json={"data": B64, "timeout_ms": 1})
    assert refused(late, 504, "RequestTimeoutException").startswith("deadline_exceeded: ")
    wrong = client.post(PREDICT, json={"instances": [B64], "parameters": [1]})
    assert '"parameters"' in refused(wrong, 400, "BadRequestException")


@pytest.mark.parametrize(
    ("params", "accept", "kind", "size"),
    [
        ({}, "image/*", "PNG", (200, 150)),
        ({}, "image/jpeg", "JPEG", (200, 150)),
        ({"output": "overlay"}, "*/*", "JPEG", (200, 150)),
        ({"output": "heatmap", "size": "input"}, "*/*", "PNG", (128, 128)),
        ({"output": "overlay", "format": "webp"}, "application/json", "WEBP", (200, 150)),
    ],
)
def test_a_picture_is_the_answer_where_one_is_asked_for(client, params, accept, kind, size):
    response = client.put(EXPLAIN, content=PNG, params=params, headers={"Accept": accept})
    picture = Image.open(io.BytesIO(response.content))
    assert response.headers["content-type"] == Image.MIME[picture.format]
    assert (picture.format, picture.size) == (kind, size)
    wanted = accept if accept.startswith("image/") else "image/*"
    native = client.post("/explain", content=PNG, params={"model": "scenes", **params}, headers={"Accept": wanted})
    assert response.content == native.content


def test_the_services_own_words_are_one_of_the_outputs(client, native):
    (result,) = told(client.put(f"{EXPLAIN}?output=json&output=map&output=overlay", content=PNG))["results"]
    (explanation,) = result["explanations"]
    (expected,) = native[0]["explanations"]
    np.testing.assert_allclose(values(explanation["map"]), values(expected["map"]), atol=1e-6 * expected["max"])
    assert opened(explanation["overlay"]).size == (200, 150)


def test_a_version_may_be_in_the_path(client):
    expected = told(client.post("/predictions/resnet18", content=PNG, params={"top_k": 3}))
    assert len(expected) == 3
    for path in ("/predictions/resnet18/1", "/predictions/resnet18/stable", "/predictions/resnet18@1"):
        assert told(client.post(path, content=PNG, params={"top_k": "3"})) == expected


def test_sagemaker_needs_no_name(client, native):
    assert told(client.post("/invocations", content=PNG)) == named(native[0])
    (entry,) = told(client.post("/invocations?model_name=scenes", json={"instances": [B64]}))["predictions"]
    assert entry == named(native[0])


def test_the_model_that_is_named_is_the_one_that_answers(client):
    expected = told(client.post("/predictions/resnet18", content=PNG))
    for asked in (
        {"url": "/invocations?model=resnet18", "content": PNG},
        {"url": "/invocations", "json": {"data": B64, "model": "resnet18"}},
        {"url": "/invocations", "files": {"data": PNG}, "data": {"model": "resnet18"}},
        {"url": "/invocations?model_name=resnet18&model=resnet18", "content": PNG},
    ):
        assert told(client.post(**asked)) == expected
    enveloped = {"instances": [{"data": B64}], "parameters": {"model": "resnet18"}}
    assert told(client.post("/invocations", json=enveloped)) == {"predictions": [expected]}
    for asked in (
        {"url": "/invocations?model_name=scenes&model_name=resnet18", "content": PNG},
        {"url": "/invocations?model_name=scenes&model=resnet18", "content": PNG},
        {"url": f"{PREDICT}?model=resnet18", "content": PNG},
        {"url": PREDICT, "json": {"data": B64, "model": "resnet18"}},
    ):
        assert "'scenes' and 'resnet18'" in refused(client.post(**asked), 400, "BadRequestException")
    inside = {"instances": [{"data": B64, "model": "resnet18"}]}
    assert "of the whole request" in refused(client.post("/invocations", json=inside), 400, "BadRequestException")


def test_who_misspells_an_option_is_not_answered_as_if_there_were_none(client):
    for asked in (
        {"url": f"{EXPLAIN}?targt=3", "content": PNG},
        {"url": EXPLAIN, "files": {"data": PNG}, "data": {"targt": "3"}},
        {"url": EXPLAIN, "json": {"data": B64, "targt": 3}},
        {"url": EXPLAIN, "json": {"instances": [B64], "parameters": {"targt": 3}}},
        {"url": EXPLAIN, "json": {"instances": [{"data": B64, "targt": 3}]}},
    ):
        assert "did you mean 'target'?" in refused(client.post(**asked), 400, "BadRequestException")


@pytest.mark.parametrize(
    ("asked", "status", "kind", "part"),
    [
        ({"url": "/predictions/nope", "content": PNG}, 404, "ModelNotFoundException", "unknown_model: "),
        ({"url": "/predictions/scenes/9", "content": PNG}, 404, "ModelNotFoundException", "version"),
        ({"url": "/predictions", "content": PNG}, 404, "ResourceNotFoundException", "no_such_path: "),
        ({"url": "/predictions/resnet50", "content": PNG}, 503, "ServiceUnavailableException", "model_failed: "),
        ({"url": PREDICT, "content": b""}, 400, "BadRequestException", "is empty"),
        ({"url": PREDICT, "content": b"text"}, 400, "BadRequestException", "undecodable_image: "),
        ({"url": PREDICT, "json": {}}, 400, "BadRequestException", "has no picture"),
        ({"url": PREDICT, "json": []}, 400, "BadRequestException", "JSON object"),
        ({"url": PREDICT, "json": {"instances": []}}, 400, "BadRequestException", "instances"),
        ({"url": PREDICT, "files": {"a": PNG, "b": PNG}}, 400, "BadRequestException", "'a', 'b'"),
        ({"url": PREDICT, "content": b"&&&", "headers": FORM}, 400, "BadRequestException", "none"),
        ({"url": PREDICT, "data": {"data": "?"}}, 400, "BadRequestException", "is not base64"),
        ({"url": PREDICT, "files": [("data", PNG)] * 33}, 413, "BadRequestException", "at most 32"),
        ({"url": f"{EXPLAIN}?target=dragon", "content": PNG}, 400, "BadRequestException", "unknown_target: "),
        ({"url": f"{EXPLAIN}?output=nothing", "content": PNG}, 400, "BadRequestException", "'overlay'"),
        ({"url": f"{EXPLAIN}?output=map&output=overlay", "content": PNG}, 400, "BadRequestException", "output=json"),
        ({"url": PREDICT, "files": {"a": PNG, "b": PNG}}, 400, "BadRequestException", "where each part is named data"),
        ({"url": f"{EXPLAIN}?output=overlay", "files": [("data", PNG)] * 2}, 400, "BadRequestException", "one image"),
        (
            {"url": f"{EXPLAIN}?output=overlay&target=0&target=1", "content": PNG},
            400,
            "BadRequestException",
            "; output=json",
        ),
        ({"url": PREDICT, "content": b"\0" * 40_000_000}, 413, "BadRequestException", "too_large: "),
    ],
    ids=lambda value: None,
)
def test_what_is_wrong_is_told_as_torchserve_does(client, asked, status, kind, part):
    assert part in refused(client.request("POST", **asked), status, kind)


def test_a_full_queue_is_no_429_here(limited):
    with full_queue(limited.client, 3):
        full = limited.client.put(PREDICT, content=PNG)
    assert refused(full, 503, "ServiceUnavailableException").startswith("queue_full: ")
    assert full.headers["retry-after"] == "1"


def test_metrics_name_the_route_and_blame_callers_for_what_is_theirs(limited):
    def counted():
        labels = {"endpoint": "/predictions/{name}", "inference": "true"}
        answers = value(limited.client, "gradcam_requests_total", **labels, model="scenes", status="200", fault="")
        return answers, value(limited.client, "gradcam_requests_total", **labels, status="503", fault="caller")

    answers, refusals = counted()
    told(limited.client.put(PREDICT, content=PNG))
    with full_queue(limited.client, 3):
        limited.client.put(PREDICT, content=PNG)
    until(counted, (answers + 1, refusals + 1))


def test_another_method_is_refused(client):
    for path in (PREDICT, EXPLAIN, "/predictions/scenes/1", "/explanations/scenes/1", "/invocations"):
        response = client.delete(path)
        assert "POST, PUT would work" in refused(response, 405, "MethodNotAllowedException")
        assert response.headers["allow"] == "POST, PUT"


def test_who_waits_to_be_told_to_go_on_is(client, native):
    """As ``curl -T`` of a large picture does."""
    sent = request(PNG, "Expect: 100-continue", line=f"PUT {PREDICT} HTTP/1.1")
    ((status, _, body),) = responses(client, sent)
    assert (status, body) == (200, named(native[0]))
