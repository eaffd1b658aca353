"""The Open Inference Protocol over REST: maps and scores are those of the service's own protocol, to the last bit."""

import gzip
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from gradcam_service.images.geometry import prepare

from .calls import answered, base64_of, encoded, explain, opened, photo, predict, values
from .v2 import LENGTH, binary, elements, error, in_json, pictures, tensors

INFER = "/v2/models/scenes/infer"
EXPLAIN = "/v2/models/scenes-explain/infer"
BOTH = [pytest.param({"binary_data_output": True}, id="binary"), pytest.param({}, id="JSON")]


def wanted(*names):
    return [{"name": name} for name in names]


@pytest.fixture(scope="module")
def second(client):
    """Another picture of the same kind."""
    return encoded(photo(160, 120, seed=3), "PNG")


@pytest.fixture(scope="module")
def tensor(client, scene):
    """What scenes receives of the example picture, as a client computes it with NumPy: (1, 3, 128, 128)."""
    spec = client.get("/models/scenes").json()["preprocess"]
    pixels = prepare(Image.open(io.BytesIO(scene)).convert("RGB"), pad=spec["pad"], fill=(128, 128, 128)).pixels
    mean, std = np.float32(spec["mean"]), np.float32(spec["std"])
    return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))[None]


@pytest.mark.parametrize("parameters", BOTH)
@pytest.mark.parametrize("method", ["gradcam", "guided_backprop"])
def test_maps_are_the_native_ones(client, scene, second, parameters, method):
    own = values(explain(client, scene, output="map", target="star", method=method)["map"])
    assert own.any()
    asked = {"outputs": wanted("map", "target"), "parameters": {"target": "star", "method": method, **parameters}}
    found = tensors(client.post(EXPLAIN, **pictures(scene, **asked)))
    assert found["map"].dtype == np.float32
    np.testing.assert_allclose(found["map"], own[None], rtol=0, atol=0 if parameters else 1e-6)
    labels = client.get("/models/scenes").json()["labels"]
    assert [labels[index] for index in found["target"]] == ["star"]
    both = tensors(client.post(EXPLAIN, **pictures(second, scene, **asked)))["map"]
    np.testing.assert_allclose(both[1], own, rtol=0, atol=1e-5 * own.max())  # computed with the other


@pytest.mark.parametrize("parameters", BOTH)
def test_scores_are_the_native_probabilities(client, scene, second, parameters):
    found = tensors(client.post(INFER, **pictures(scene, second, parameters=parameters)))
    assert found.keys() == {"scores"}
    for number, picture in enumerate((scene, second)):
        own = {entry["index"]: entry["probability"] for entry in predict(client, picture, top_k=1000)}
        np.testing.assert_allclose(found["scores"][number], [own[i] for i in range(len(own))], rtol=1e-6, atol=1e-7)


def test_pictures_are_the_native_ones_as_bytes_or_as_base64(client, scene):
    own = explain(client, scene, output=["heatmap", "overlay"], target="star", format="png", colormap="viridis")
    asked = {
        "outputs": wanted("overlay", "heatmap"),
        "parameters": {"target": "star", "format": "png", "colormap": "viridis"},
    }
    for name, (text,) in tensors(client.post(EXPLAIN, **in_json(scene, **asked))).items():
        assert text == own[name]["data"]
    asked["parameters"]["binary_data_output"] = True
    for name, (data,) in tensors(client.post(EXPLAIN, **in_json(scene, **asked))).items():
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(opened(own[name])))


def test_only_what_is_asked_for_is_answered_in_its_order_and_without_names_everything(client, scene):
    assert list(tensors(client.post(EXPLAIN, **in_json(scene, outputs=wanted("scores", "map"))))) == ["scores", "map"]
    everything = ["overlay", "heatmap", "map", "target", "scores"]
    assert list(tensors(client.post(EXPLAIN, **in_json(scene)))) == everything
    assert list(tensors(client.post("/v2/models/scenes/explain", **in_json(scene)))) == everything
    assert list(tensors(client.post(INFER, **in_json(scene, outputs=wanted("map"))))) == ["map"]


def test_each_output_is_in_bytes_or_in_json_as_it_says_for_itself(client, scene):
    outputs = [
        {"name": "scores", "parameters": {"binary_data": False}},
        {"name": "map", "parameters": {"binary_data": None}},
        {"name": "overlay", "parameters": {"binary_data": True}},
    ]
    response = client.post(EXPLAIN, **in_json(scene, outputs=outputs, parameters={"binary_data_output": True}))
    assert tensors(response).keys() == {"scores", "map", "overlay"}
    said = {
        output["name"]: output for output in json.loads(response.content[: int(response.headers[LENGTH])])["outputs"]
    }
    assert "data" in said["scores"]
    assert said["map"]["parameters"] == {"binary_data_size": 4 * 16 * 16}
    assert "data" not in said["overlay"]


def test_what_is_in_json_says_by_which_of_mlservers_codecs_it_is_read(client, scene):
    said = client.post(EXPLAIN, **in_json(scene)).json()
    assert {output["name"]: output["parameters"]["content_type"] for output in said["outputs"]} == {
        "overlay": "base64",
        "heatmap": "base64",
        "map": "np",
        "target": "np",
        "scores": "np",
    }


@pytest.mark.parametrize("shape", [[1], [1, 1]])
@pytest.mark.parametrize(
    "form", ["base64", "data: URI", "b64", "nested", "binary", "binary base64", "binary without length"]
)
def test_a_picture_may_come_in_every_form_that_clients_have(client, scene, shape, form):
    text = base64_of(scene)
    data = {"base64": [text], "data: URI": [f"data:image/jpeg;base64,{text}"], "b64": [{"b64": text}]}
    data["nested"] = [[text]] if len(shape) == 2 else [text]
    sent = {"binary": elements([scene]), "binary base64": elements([text.encode()]), "binary without length": scene}
    if form in data:
        body = {"inputs": [{"name": "whatever", "datatype": "BYTES", "shape": shape, "data": data[form]}]}
        response = client.post(INFER, content=json.dumps(body), headers={"Content-Type": "text/plain"})
    else:
        response = client.post(INFER, **binary(("image", "BYTES", shape, sent[form])))
    own = tensors(client.post(INFER, **pictures(scene)))["scores"]
    assert np.array_equal(tensors(response)["scores"], own)


def test_pixels_go_through_the_models_own_preparing_whichever_axis_is_that_of_colours(client, scene):
    pixels = np.asarray(Image.open(io.BytesIO(scene)).convert("RGB"))
    rows, planes = pixels[None], np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]
    asked = {"outputs": wanted("map", "scores"), "parameters": {"binary_data_output": True, "target": "star"}}
    own = tensors(client.post(EXPLAIN, **pictures(scene, **asked)))
    for values_ in (rows, planes):
        found = tensors(client.post(EXPLAIN, **binary(("image", "UINT8", values_.shape, values_.tobytes()), **asked)))
        assert np.array_equal(found["map"], own["map"])
        assert np.array_equal(found["scores"], own["scores"])


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("face", ["scenes-tensor", "scenes", "scenes-explain"])
def test_a_prepared_tensor_is_answered_as_the_picture_that_it_was_made_of(client, scene, tensor, face, datatype):
    asked = {"outputs": wanted("map", "scores"), "parameters": {"binary_data_output": True, "target": "star"}}
    own = tensors(client.post(EXPLAIN, **pictures(scene, **asked)))
    sent = tensor.astype({"FP32": "<f4", "FP64": "<f8"}[datatype])
    body = binary(("input", datatype, sent.shape, sent.tobytes()), **asked)
    found = tensors(client.post(f"/v2/models/{face}/infer", **body))
    assert np.array_equal(found["map"], own["map"])
    assert np.array_equal(found["scores"], own["scores"])


def test_a_tensor_of_half_the_bits_is_widened(client, tensor):
    halved = (tensor.view(np.uint32) >> 16).astype("<u2")
    exact = (halved.astype(np.uint32) << 16).view(np.float32)
    asked = {"parameters": {"binary_data_output": True}}
    found, own = (
        tensors(client.post("/v2/models/scenes-tensor/infer", **binary(("input", *sent), **asked)))["scores"]
        for sent in (("BF16", halved.shape, halved.tobytes()), ("FP32", exact.shape, exact.tobytes()))
    )
    assert np.array_equal(found, own)


def test_the_overlay_of_a_tensor_is_drawn_on_what_it_was_before_it_was_normalised(client, tensor):
    asked = {"outputs": wanted("overlay"), "parameters": {"binary_data_output": True, "format": "png", "alpha": 0}}
    ((data,),) = tensors(
        client.post(EXPLAIN, **binary(("input", "FP32", tensor.shape, tensor.tobytes()), **asked))
    ).values()
    shown = np.rint((tensor[0] * 0.25 + 0.5) * 255).transpose(1, 2, 0)
    assert np.abs(np.asarray(Image.open(io.BytesIO(data))) - shown).max() <= 1


def test_a_raw_body_is_the_one_input_and_answered_in_bytes_alone(client, scene, tensor):
    headers = {LENGTH: "0", "Content-Type": "application/x-www-form-urlencoded"}
    own = tensors(client.post(INFER, **pictures(scene, parameters={"binary_data_output": True})))["scores"]
    assert np.array_equal(tensors(client.post(INFER, content=scene, headers=headers))["scores"], own)
    two = np.concatenate([tensor, tensor]).tobytes()
    found = tensors(client.post("/v2/models/scenes-tensor/infer", content=two, headers=headers))["scores"]
    np.testing.assert_allclose(found, np.concatenate([own, own]), rtol=1e-5)
    assert "196608" in error(client.post("/v2/models/scenes-tensor/infer", content=two[:-1], headers=headers), 400)


def test_each_image_may_have_targets_of_its_own_by_a_second_input(client, scene):
    labels = client.get("/models/scenes").json()["labels"]
    asked = {"outputs": wanted("map", "target", "heatmap"), "parameters": {"binary_data_output": True}}
    image = ("image", "BYTES", [2, 1], elements([scene] * 2))
    names = [["star", "flower"], ["moon", "star"]] if "moon" in labels else [["star", "flower"], ["flower", "star"]]
    indices = np.array([[labels.index(name) for name in row] for row in names])
    named = binary(
        image, ("target", "BYTES", [2, 2], elements([name.encode() for row in names for name in row])), **asked
    )
    found = tensors(client.post(EXPLAIN, **named))
    assert np.array_equal(found["target"], indices)
    assert found["map"].shape == (2, 2, 16, 16)
    assert len(found["heatmap"]) == 4
    for row, column in np.ndindex(2, 2):
        own = values(explain(client, scene, output="map", target=names[row][column])["map"])
        np.testing.assert_allclose(found["map"][row, column], own, rtol=0, atol=1e-5 * max(own.max(), 1))
    numbered = binary(image, ("target", "INT32", [2, 2], indices.astype("<i4").tobytes()), **asked)
    np.testing.assert_allclose(tensors(client.post(EXPLAIN, **numbered))["map"], found["map"], rtol=0, atol=1e-5)
    one = tensors(
        client.post(EXPLAIN, **binary(image, ("target", "BYTES", [2], elements([b"star", b"flower"])), **asked))
    )
    assert one["map"].shape == (2, 16, 16)
    assert one["target"].shape == (2,)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("star", ["star"]),
        ("star,flower", ["star", "flower"]),
        ('["star", 5]', ["star", "flower"]),
        (10, ["star"]),
        ("10", ["star"]),
        ('{"class": "star", "against": "flower"}', ["star"]),
    ],
)
def test_targets_may_be_named_in_a_parameter(client, scene, written, expected):
    labels = client.get("/models/scenes").json()["labels"]
    asked = {"outputs": wanted("target"), "parameters": {"target": written}}
    found = tensors(client.post(EXPLAIN, **in_json(scene, **asked)))["target"]
    assert [labels[index] for index in found.ravel()] == expected


def test_parameters_are_options_however_they_are_typed(client, scene):
    own = explain(
        client, scene, output="overlay", target="star", legend=True, alpha=0.7, max_side=64, method="layercam"
    )
    asked = {"target": "star", "legend": 1, "alpha": "0.7", "max_side": 64.0, "method": "layercam"}
    asked |= {"sequence_id": 7, "priority": 1, "triton_x": "y", "headers": {"a": "b"}, "traceparent": "00-0"}
    response = client.post(EXPLAIN, **in_json(scene, outputs=wanted("overlay"), parameters=asked))
    assert tensors(response)["overlay"] == [own["overlay"]["data"]]
    assert response.json()["parameters"] == {"method": "layercam", "layer": "layer3", "kind": "unsigned"}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"colourmap": "turbo"}, "did you mean 'colormap'?"),
        ({"alpha": 2}, "'alpha'"),
        ({"method": "guesswork"}, "guesswork"),
        ({"boxes": True}, "'boxes'"),
        ({"output": "map"}, "outputs"),
        ({"timeout": "soon"}, "microseconds"),
        ({"target": "dragon"}, "dragon"),
        ({"target": "["}, "JSON"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused_by_name(client, scene, parameters, says):
    assert says in error(client.post(EXPLAIN, **in_json(scene, parameters=parameters)), 400)


def test_parameters_of_which_there_are_many_are_passed_over(client, scene):
    asked = {f"unlike-{number}-anything": number for number in range(20_000)}
    assert tensors(client.post(INFER, **in_json(scene, parameters=asked)))


@pytest.mark.parametrize(("names", "says"), [(["maps"], "did you mean 'map'?"), (["map", "map"], "twice")])
def test_an_output_that_is_not_there_or_asked_for_twice_is_refused(client, scene, names, says):
    assert says in error(client.post(EXPLAIN, **in_json(scene, outputs=wanted(*names))), 400)


def test_an_option_of_explanations_is_refused_where_none_is_asked_for(client, scene):
    assert error(client.post(INFER, **in_json(scene, parameters={"timeout_ms": 0})), 400)
    target = ("target", "BYTES", [1], elements([b"star"]))
    refused = client.post(INFER, **binary(("image", "BYTES", [1], elements([scene])), target))
    assert "what is explained" in error(refused, 400)


def test_a_timeout_is_in_microseconds(client, scene):
    slow = {"method": "rise", "masks": 1000, "timeout": 1000}
    late = error(client.post(EXPLAIN, **in_json(scene, parameters=slow)), 504)
    assert late.startswith("deadline_exceeded: ")
    assert "a longer timeout" in late  # not timeout_ms, which is the service's own
    assert tensors(client.post(INFER, **in_json(scene, parameters={"timeout": 0})))


def test_an_id_is_given_back_and_made_where_there_is_none(client, scene):
    assert client.post(INFER, **in_json(scene, id="mine")).json()["id"] == "mine"
    response = client.post(INFER, **in_json(scene))
    assert response.json()["id"] == response.headers["x-request-id"]


def test_the_best_classes_are_named_as_triton_names_them(client, scene):
    outputs = [{"name": "scores", "parameters": {"classification": 3}}]
    best = predict(client, scene, top_k=3)
    own = [f"{entry['probability']:.6f}:{entry['index']}:{entry['label']}" for entry in best]
    response = client.post(INFER, **in_json(scene, scene, outputs=outputs))
    assert tensors(response)["scores"] == own * 2
    assert response.json()["outputs"][0]["shape"] == [2, 3]
    in_bytes = client.post(INFER, **in_json(scene, outputs=outputs, parameters={"binary_data_output": True}))
    assert tensors(in_bytes)["scores"] == [text.encode() for text in own]
    outputs[0]["parameters"]["classification"] = 1000
    assert len(tensors(client.post(INFER, **in_json(scene, outputs=outputs)))["scores"]) == 12
    outputs[0]["name"] = "map"
    assert "classification" in error(client.post(EXPLAIN, **in_json(scene, outputs=outputs)), 400)


def test_floats_that_are_hardly_normalised_are_answered_with_a_warning_and_pixels_are_not(client):
    def asked(largest):
        floats = np.linspace(0, largest, 3 * 128 * 128, dtype="<f4").reshape(1, 3, 128, 128)
        return client.post(INFER, **binary(("input", "FP32", floats.shape, floats.tobytes())))

    assert "from -2 to 2" in asked(1).json()["parameters"]["warnings"]
    assert "parameters" not in asked(2).json()
    assert error(asked(255), 400).startswith("unfit_input: ")


def test_one_image_that_can_not_be_read_fails_all_and_is_named(client, scene):
    refused = error(client.post(INFER, **pictures(scene, b"\xff\xd8\xff no picture", scene)), 400)
    assert refused.startswith("undecodable_image: image 1: ")


def test_text_that_came_as_bytes_is_no_picture_and_as_a_string_no_base64(client, scene):
    as_bytes = error(client.post(INFER, **pictures(scene, b"hello")), 400)
    assert as_bytes.startswith("undecodable_image: image 1: ")
    assert "text" in as_bytes
    body = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["hello"]}]}
    assert "is not base64" in error(client.post(INFER, json=body), 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways_where_that_is_asked(client, scene, coding):
    sent = in_json(scene, parameters={"binary_data_output": True}, id="x")["json"]
    text = json.dumps(sent).encode()
    packed = gzip.compress(text) if coding == "gzip" else zlib.compress(text)
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding}
    with client.stream("POST", INFER, content=packed, headers=headers) as response:
        assert response.headers["content-encoding"] == coding
        raw = b"".join(response.iter_raw())
    body = gzip.decompress(raw) if coding == "gzip" else zlib.decompress(raw)
    assert body == client.post(INFER, json=sent, headers={"Accept-Encoding": "identity"}).content


@pytest.mark.parametrize("accept", ["gzip, deflate", "gzip, deflate, br", "br", "identity", "gzip;q=0"])
def test_nothing_is_compressed_that_a_library_asks_for_by_itself(client, scene, accept):
    headers = {"Accept-Encoding": accept}
    assert "content-encoding" not in client.post(INFER, **in_json(scene), headers=headers).headers
    for path in ("/v2", "/v2/health/ready", "/v2/models/scenes", "/v2/models/scenes/config", "/v2/models/nope"):
        assert "content-encoding" not in client.get(path, headers=headers).headers


def test_another_coding_is_refused(client, scene):
    assert error(client.post(INFER, content=scene, headers={"Content-Encoding": "br", LENGTH: "0"}), 415)


def test_no_more_images_than_are_accepted(limited):
    assert "at most 3" in error(limited.client.post(INFER, **pictures(*[b"x"] * 4)), 413)


@pytest.mark.parametrize("parameters", BOTH)
def test_long_answers_are_sent_while_they_are_written(client, scene, parameters):
    asked = {"method": "guided_backprop", "target": list(range(7))}
    own = [values(entry["map"]) for entry in native(client, scene, **asked)]
    asked = asked | {"target": "0,1,2,3,4,5,6"} | parameters
    response = client.post(EXPLAIN, **pictures(scene, outputs=wanted("map"), parameters=asked))
    assert len(response.content) > 2**20
    assert ("content-length" in response.headers) == bool(parameters)
    np.testing.assert_allclose(tensors(response)["map"], [own], rtol=0, atol=0 if parameters else 1e-6)


def native(client, picture, **options):
    body = {"images": [base64_of(picture)], "output": "map"} | options
    return answered(client.post("/explain", json=body))["results"][0]["explanations"]
