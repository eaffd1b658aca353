"""KServe's V1 protocol: pictures however they are wrapped, options in three places, an entry for each instance."""

import json

import numpy as np
import pytest
from PIL import Image

from .calls import answered, base64_of, encoded, full_queue, photo, values
from .raw import request, responses

PIXELS = np.asarray(photo(40, 30))
PNG = encoded(Image.fromarray(PIXELS), "PNG")
B64 = base64_of(PNG)
PREDICT, EXPLAIN = "/v1/models/scenes:predict", "/v1/models/scenes:explain"
WRAPPED = {
    "kserve's samples": {"image_bytes": {"b64": B64}, "key": "   1"},
    "kserve's custom predictor": {"image": {"b64": B64}},
    "tensorflow serving": {"b64": B64},
    "vertex": {"bytes_inputs": {"b64": B64}},
    "torchserve's samples": {"data": B64, "target": 0},
    "any name": {"conv2d_input": B64},
    "beside something": {"image": B64, "id": "cat.png"},
    "a string": B64,
    "a data URI": f"data:image/png;base64,{B64}",
    "numbers, channels last": PIXELS.tolist(),
    "numbers, channels first": PIXELS.transpose(2, 0, 1).tolist(),
    "numbers in a batch of one": {"image": [PIXELS.tolist()]},
}
WRONG = {  # name → an instance, a part of the error
    "a number": (7, "must be a string of base64"),
    "null": (None, "must be a string"),
    "nothing": ({}, "has no picture"),
    "options alone": ({"target": 1, "key": "a"}, "has no picture"),
    "two pictures": ({"left": B64, "right": B64}, "'left', 'right'"),
    "no base64": ({"b64": "!"}, "is not base64"),
    "a number in b64": ({"image": {"b64": 7}}, "must be a string of base64"),
    "a URL": ("https://example.org/a.jpg", "URLs are not fetched"),
    "empty": ({"b64": ""}, "is empty"),
    "no picture": (base64_of(b"hello"), "undecodable_image: "),
    "a row": ([1, 2, 3], "depth 1"),
    "five axes": ([[[[[1]]]]], "depth 5"),
    "uneven rows": ([[1, 2], [1]], "different lengths"),
    "words": ([["a", "b"]], "something else than numbers"),
    "negative numbers": ([[-1, 2]], "from -1 to 2"),
    "huge numbers": ([[10**30, 2]], "numbers"),
    "no rows": ([[]], "empty"),
    "numbers of another size than the model's": ([[0.5, 0.25]], "unfit_input: "),
    "an unknown class": ({"b64": B64, "target": "dragon"}, "unknown_target: "),
    "an option out of range": ({"b64": B64, "alpha": 7}, "bad_option: option 'alpha'"),
    "an unknown method": ({"b64": B64, "method": "gradcam++"}, "unsupported_method: "),
    "an unknown layer": ({"b64": B64, "layer": "nope"}, "unknown_layer: "),
}


def asked(client, path, *instances, **more):
    """The answer to instances."""
    return answered(client.post(path, json={"instances": list(instances), **more}))


def refused(response, status):
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    assert response.json().keys() == {"error"}
    return response.json()["error"]


@pytest.fixture(scope="module")
def native(client):
    """The native answer to `PNG`: its probabilities in the order of the classes, and the explanation of each class."""
    options = {"output": "map", "target": [0, 5], "top_k": 12}
    (result,) = answered(client.post("/explain", json={"image": B64, **options}))["results"]
    probability = {each["index"]: each["probability"] for each in result["predictions"]}
    return [probability[index] for index in range(12)], {e["target"]["index"]: e for e in result["explanations"]}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_picture_is_found_in_whatever_it_is_wrapped_in(client, native, name):
    (entry,) = asked(client, PREDICT, WRAPPED[name])["predictions"]
    scores = entry["scores"] if isinstance(entry, dict) else entry
    assert scores == pytest.approx(native[0], abs=1e-6)


def test_a_key_comes_back_with_its_prediction(client, native):
    entries = asked(client, PREDICT, {"b64": B64, "key": "   1"}, {"b64": B64, "key": {"a": 1}}, {"key": 2, "b64": "!"})
    first, second, wrong = entries["predictions"]
    assert first["key"] == "   1"
    assert second["key"] == {"a": 1}
    assert first["scores"] == pytest.approx(native[0], abs=1e-6)
    assert first["prediction"] == int(np.argmax(native[0]))
    assert wrong.keys() == {"key", "error"}
    for deep in (400, 900):
        key = b"[" * deep + b"]" * deep
        body = b'{"instances":[{"b64":"%b","key":%b},"%b"]}' % (B64.encode(), key, B64.encode())
        response = client.post(PREDICT, content=body)
        assert response.status_code == 200
        assert b'"key":' + key in response.content


@pytest.mark.parametrize("name", WRONG)
def test_an_instance_that_is_wrong_is_an_entry_among_others_and_a_400_alone(client, name):
    instance, part = WRONG[name]
    good = {"b64": B64, "output": "map"}
    body = asked(client, EXPLAIN, good, instance, good)
    assert [len(entries) for entries in body.values()] == [3, 3]
    for entries in body.values():
        assert entries[1].keys() - {"key"} == {"error"}
        assert part in entries[1]["error"]
    first, last = (values(body["explanations"][place]["explanations"][0]["map"]) for place in (0, 2))
    np.testing.assert_allclose(first, last, atol=1e-6 * first.max())
    assert part in refused(client.post(EXPLAIN, json={"instances": [instance]}), 400)


def test_a_map_is_the_native_one(client, native):
    body = asked(client, EXPLAIN, {"b64": B64, "target": 0}, {"b64": B64, "target": 5}, parameters={"output": "map"})
    for index, result in zip((0, 5), body["explanations"], strict=True):
        (explanation,) = result["explanations"]
        expected = native[1][index]
        assert np.abs(values(explanation["map"]) - values(expected["map"])).max() <= 1e-6 * expected["max"]
        assert explanation["target"]["index"] == index
    assert body["predictions"] == [pytest.approx(native[0], abs=1e-6)] * 2


def test_what_is_prepared_already_is_taken_as_it_is(client, native):
    """By another way than the service: the picture is padded with gray, scaled to (0, 1), then (x − ½) / ¼."""
    square = Image.new("RGB", (128, 128), (128, 128, 128))
    square.paste(Image.fromarray(PIXELS).resize((128, 96), Image.Resampling.BILINEAR), (0, 16))
    pixels = np.asarray(square, np.float32) / 255
    (expected,) = asked(client, PREDICT, base64_of(encoded(square, "PNG")))["predictions"]
    prepared = (pixels - 0.5) / 0.25
    first, last = asked(client, PREDICT, prepared.transpose(2, 0, 1).tolist(), prepared.tolist())["predictions"]
    assert first == last == pytest.approx(expected, abs=1e-4)


def test_a_warning_stands_beside_probabilities_which_have_no_place_for_it(client):
    hardly = np.linspace(0, 1, 3 * 128 * 128, dtype=np.float32).reshape(3, 128, 128).tolist()
    response = client.post(PREDICT, json={"instances": [B64, hardly, "!"]})
    none, (warning,), of_error = answered(response)["warnings"]
    assert (none, of_error) == ([], [])
    assert "from -2 to 2" in warning
    assert response.headers["x-warnings"] == warning
    (result,) = asked(client, EXPLAIN, hardly)["explanations"]
    assert result["warnings"] == [warning]
    assert asked(client, PREDICT, B64).keys() == {"predictions"}


def test_options_may_be_in_three_places_and_the_nearest_wins(client):
    def targets(**more):
        instances = [{"b64": B64}, {"b64": B64, "target": "star"}]
        path = f"{EXPLAIN}?target=1&output=map"
        results = asked(client, path, *instances, **more)["explanations"]
        return [result["explanations"][0]["target"]["index"] for result in results]

    star = asked(client, EXPLAIN, {"b64": B64, "target": "star"})["explanations"][0]["explanations"][0]["target"]
    assert targets() == [1, star["index"]]
    assert targets(parameters={"target": 2}) == [2, star["index"]]


def test_options_are_taken_in_any_type_and_strange_members_are_passed_over(client):
    options = {"legend": 1, "boxes": "1", "max_side": "100", "target": ["3", 4.0], "output": "overlay", "alpha": "0.3"}
    strange = {"signature_name": "serving_default", "model_name": "nope", "label": 7, "mode": "RGB", "model": "scenes"}
    body = asked(client, EXPLAIN, {"b64": B64, **options, **strange}, **strange, parameters=strange | {"clip": None})
    (result,) = body["explanations"]
    assert [each["target"]["index"] for each in result["explanations"]] == [3, 4]
    assert all("boxes" in each and "overlay" in each for each in result["explanations"])


@pytest.mark.parametrize(("name", "meant"), [("targt", "target"), ("Layer", "layer"), ("colourmap", "colormap")])
def test_who_misspells_an_option_is_not_answered_as_if_there_were_none(client, name, meant):
    says = f"bad_option: there is no option {name!r}; did you mean {meant!r}?"
    whole = {"instances": [B64, B64]}
    assert refused(client.post(f"{EXPLAIN}?{name}=3", json=whole), 400) == says
    assert refused(client.post(EXPLAIN, json=whole | {"parameters": {name: [3]}}), 400) == says
    wrong, good = asked(client, PREDICT, {"b64": B64, name: "3"}, B64)["predictions"]
    assert wrong == {"error": says}
    assert len(good) == 12


def test_another_model_than_the_paths_is_not_passed_over(client):
    one = {"instances": [B64]}
    for response in (
        client.post(f"{PREDICT}?model=resnet18", json=one),
        client.post(PREDICT, json=one | {"parameters": {"model": "resnet18"}}),
    ):
        assert "'scenes' and 'resnet18'" in refused(response, 400)
    for own in ({"model": "resnet18"}, {"timeout_ms": 5000}):
        wrong, good = asked(client, PREDICT, {"b64": B64, **own}, B64)["predictions"]
        assert "is an option of the whole request" in wrong["error"]
        assert len(good) == 12


def test_countless_targets_are_refused_once_for_all_instances(client):
    targets = {"target": ["a"] * 200_000}
    instances = [{"b64": B64, "layer": "auto"}] * 2
    for body in ({"instances": instances, "parameters": targets}, {"instances": [{"b64": B64, **targets}]}):
        text = refused(client.post(EXPLAIN, json=body), 400)
        assert text == "too_many_targets: 200000 targets in one request; at most 16 are accepted"
    assert "at most 3" in refused(
        client.post(EXPLAIN, json={"instances": [B64], "parameters": {"output": ["map"] * 9}}), 400
    )


def test_with_top_k_a_prediction_is_the_native_one(client):
    (expected,) = answered(client.post("/predict", json={"image": B64, "top_k": 3}))["results"]
    assert asked(client, PREDICT, B64, parameters={"top_k": 3}) == {"predictions": [expected]}
    probabilities, named = asked(client, PREDICT, B64, {"b64": B64, "top_k": 3})["predictions"]
    assert named.keys() == expected.keys()
    told = [
        (each["index"], each["label"], pytest.approx(each["probability"], abs=1e-6)) for each in named["predictions"]
    ]
    assert [(each["index"], each["label"], each["probability"]) for each in expected["predictions"]] == told
    assert len(probabilities) == 12


def test_columns_are_answered_as_tensorflow_serving_does(client, native):
    columns = {"inputs": {"image_bytes": [{"b64": B64}] * 2, "key": ["a", "b"]}}
    first, second = answered(client.post(PREDICT, json=columns))["outputs"]
    assert (first["key"], second["key"]) == ("a", "b")
    assert answered(client.post(PREDICT, json={"inputs": [B64]}))["predictions"] == [pytest.approx(native[0], abs=1e-6)]


@pytest.mark.parametrize("path", ["/v1/models/resnet18/versions/1", "/v1/models/resnet18/labels/stable"])
def test_versions_and_labels_are_asked_as_tensorflow_serving_does(client, path):
    expected = asked(client, "/v1/models/resnet18@1:predict", B64)
    assert asked(client, f"{path}:predict", B64) == asked(client, "/v1/models/resnet18%401:predict", B64) == expected


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        (b"", 400, "malformed: the body is not JSON"),
        (b"[]", 400, "malformed: the body must be a JSON object"),
        (b"{}", 400, '"instances"'),
        (b'{"instances": {}}', 400, '"instances"'),
        (b'{"instances": []}', 400, '"instances"'),
        (b'{"instances": [[[NaN]]]}', 400, "not JSON"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', 400, "different lengths"),
        (b'{"inputs": {}}', 400, '"instances"'),
        (b'{"instances": ["a"], "parameters": 7}', 400, '"parameters"'),
        (b'{"instances": ["a"], "parameters": {"timeout_ms": 0}}', 400, "bad_option: option 'timeout_ms'"),
        (b'{"instances": [' + b"0," * 10**6 + b"0]}", 413, "at most 32"),
        (b'{"instances": [' + b"[]," * 2**21 + b"[]]}", 413, "1048576 values"),
        (b'{"instances": [{' + b",".join(b'"a%d": "a"' % n for n in range(10**5)) + b"}]}", 400, "100000 members"),
        (b'{"instances": [' + b"[" * 10**5 + b"]" * 10**5 + b"]}", 400, "malformed"),
        (b'{"instances": [' + b"[" * 900 + b"]" * 900 + b"]}", 400, "depth 5"),
        (b"\0" * 40_000_000, 413, "too_large"),
    ],
    ids=lambda value: None,
)
def test_hostile_bodies_are_refused_in_one_line(client, body, status, part):
    for path in (PREDICT, EXPLAIN):
        text = refused(client.post(path, content=body), status)
        assert part in text
        assert len(text) < 1000


def test_what_is_wrong_with_a_request_has_its_own_status(client, limited):
    one = {"instances": [B64]}
    assert refused(client.post("/v1/models/nope:predict", json=one), 404).startswith("unknown_model: ")
    assert refused(client.post("/v1/models/resnet50:predict", json=one), 503).startswith("model_failed: ")
    assert refused(client.get(PREDICT), 405).startswith("method_not_allowed: ")
    assert client.delete(PREDICT).headers["allow"] == client.get(PREDICT).headers["allow"] == "POST"
    late = client.post(PREDICT, json=one, params={"timeout_ms": 1}, headers={"X-Request-ID": "late"})
    assert late.headers["x-request-id"] == "late"
    with full_queue(limited.client, 3):
        full = limited.client.post(PREDICT, json=one)
    assert refused(full, 429).startswith("queue_full: ")
    assert full.headers["retry-after"] == "1"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/octet-stream", "text/plain", None])
def test_a_content_type_is_not_judged(client, native, kind):
    body = json.dumps({"instances": [B64]}).encode()
    headers = [f"Content-Type: {kind}"] * (kind is not None)
    ((status, headers, body),) = responses(client, request(body, *headers, line=f"POST {PREDICT} HTTP/1.1"))
    assert (status, headers["content-type"]) == (200, "application/json")
    assert body["predictions"][0] == pytest.approx(native[0], abs=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "resnet18/versions/1", "resnet18/labels/stable"])
def test_what_else_tensorflow_serving_has_is_refused_with_what_would_work(client, name):
    assert ":predict and :explain" in refused(client.post(f"/v1/models/{name}:classify", json={}), 501)
    assert refused(client.get(f"/v1/models/{name}:classify"), 405).startswith("method_not_allowed: ")
    assert "GET /v2/models/{name}" in refused(client.get(f"/v1/models/{name}/metadata"), 501)


@pytest.mark.parametrize("path", ["resnet18/versions/7", "resnet18/labels/7", "resnet18@7"])
def test_a_version_that_is_not_there_is_told_from_a_model_that_is_not(client, path):
    told = refused(client.get(f"/v1/models/{path}"), 404)
    assert told == "unknown_model: Model with name resnet18 has no version or alias '7'."
    told = refused(client.get(f"/v1/models/{path.replace('resnet18', 'nope')}"), 404)
    assert told == "unknown_model: Model with name nope does not exist."
