"""Raw maps are Grad-CAM as Captum and plain autograd compute it."""

import numpy as np
import pytest

from . import truth
from .calls import answered, ask, base64_of, encoded, explain, photo, predict, problem, result, values


def assert_same_map(cam, expected):
    assert cam.shape == expected.shape
    np.testing.assert_allclose(cam, expected, rtol=0, atol=1e-4 * expected.max())


@pytest.fixture(scope="module")
def heated(picture):
    """Classes of ResNet-18 with a map on `picture`, the strongest first, and one without."""
    peaks = truth.weighted_sums(picture).max(axis=(1, 2))
    order = np.argsort(-peaks)
    assert peaks[order[0]] > 1e-3
    assert peaks[order[-1]] < -1e-3
    return [int(index) for index in order[:4]], int(order[-1])


def test_a_map_of_resnet18_is_captums_gradcam(client, png, picture, heated):
    for target in heated[0]:
        explanation = explain(client, png, model="resnet18", output="map", target=target)
        cam = values(explanation["map"])
        assert_same_map(cam, truth.gradcam("resnet18", picture, target, "layer4"))
        assert explanation["max"] == pytest.approx(float(cam.max()), rel=1e-6)
        assert explanation["max"] > 0
        assert explanation["empty"] is False


def test_a_map_is_zero_everywhere_and_empty_exactly_if_nothing_speaks_for_its_class(client, png, heated):
    explanation = explain(client, png, model="resnet18", output="map", target=heated[1])
    assert not values(explanation["map"]).any()
    assert explanation["max"] == 0
    assert explanation["empty"] is True
    assert "peak" not in explanation


@pytest.mark.parametrize("layer", ["layer3", "layer2", "layer1", "layer3.0", "layer3.0.conv2", "layer2.0.downsample"])
def test_a_map_of_an_earlier_layer_is_captums_gradcam_of_that_layer(client, png, picture, layer):
    known = {entry["name"]: entry["shape"] for entry in client.get("/models/resnet18").json()["layers"]}
    target = predict(client, png, model="resnet18", top_k=1)[0]["index"]
    explanation = explain(client, png, model="resnet18", output="map", target=target, layer=layer)
    assert explanation["layer"] == layer
    assert explanation["map"]["shape"] == known[layer.split(".")[0]][1:]
    assert_same_map(values(explanation["map"]), truth.gradcam("resnet18", picture, target, layer))


def test_auto_is_the_last_convolutional_layer(client, png):
    auto, named, unnamed = (
        explain(client, png, model="resnet18", output="map", target=3, **layer)
        for layer in ({"layer": "auto"}, {"layer": "layer4"}, {})
    )
    assert auto["layer"] == named["layer"] == "layer4"
    assert auto == named == unnamed


def test_a_map_of_alexnet_is_autograds(client, png, picture):
    targets = [p["index"] for p in predict(client, png, model="alexnet", top_k=3)]
    response = ask(client, "/explain", png, model="alexnet", output="map", target=targets)
    for target, explanation in zip(targets, result(response)["explanations"], strict=True):
        assert explanation["layer"] == "features.11"
        assert_same_map(values(explanation["map"]), truth.alexnet_gradcam(picture, target))


def test_a_map_of_scenes_is_captums_gradcam(client, picture, png):
    for target in (2, 5, 11):
        cam = values(explain(client, png, output="map", target=target)["map"])
        expected = truth.gradcam("scenes", picture, target, "layer3")
        np.testing.assert_allclose(cam, expected, rtol=0, atol=1e-4 * max(expected.max(), 1e-3))


def test_an_explanation_has_exactly_the_documented_members(client, png):
    outputs = ["heatmap", "overlay", "map"]
    explanation = explain(client, png, model="resnet18", output=outputs, boxes=True, target=1)
    members = {"target", "method", "layer", "kind", "scale", "region", "image_size", "max", "peak", "empty", "boxes"}
    members |= {*outputs}
    assert explanation.keys() == members
    assert explanation["target"].keys() == {"index", "label", "logit", "probability", "chosen"}
    assert explanation["method"] == "gradcam"
    assert explain(client, png).keys() == members - {"boxes", "overlay", "map"}  # a heatmap by default, no boxes


@pytest.mark.parametrize("output", [["map"], ["overlay"], ["heatmap", "map"], ["map", "overlay", "heatmap"]])
def test_exactly_the_outputs_asked_for_are_returned(client, png, output):
    explanation = explain(client, png, output=output)
    assert {"heatmap", "overlay", "map"} & explanation.keys() == set(output)


def test_the_top_class_is_explained_by_default_and_said_to_be_chosen_so(client, png):
    (top,) = predict(client, png, model="resnet18", top_k=1)
    explanation = explain(client, png, model="resnet18")
    assert explanation["target"] == {**top, "chosen": "top-1"}


def test_each_picture_of_a_request_has_its_own_top_class(client):
    files = [("image", encoded(photo(300, 200, seed).rotate(90 * seed), "PNG")) for seed in range(3)]
    colours = [("image", encoded(photo(8, 8).resize((64, 64)).convert("L"), "PNG"))]
    response = client.post("/explain", files=files + colours, data={"model": "alexnet", "output": "map"})
    tops = []
    for answer in answered(response)["results"]:
        (explanation,) = answer["explanations"]
        assert explanation["target"] == {**answer["predictions"][0], "chosen": "top-1"}
        tops.append(explanation["target"]["index"])
    assert len(set(tops)) > 1  # else the test shows nothing


def test_targets_are_indices_labels_or_indices_as_text_in_any_order_and_number(client, scene):
    asked = ["star", 5, "5", "heart", 10, "star"]
    response = client.post("/explain", json={"image": base64_of(scene), "target": asked, "output": "map", "top_k": 12})
    answer = result(response)
    by_index = {p["index"]: p for p in answer["predictions"]}
    explained = answer["explanations"]
    assert [e["target"]["index"] for e in explained] == [10, 5, 5, 6, 10, 10]
    assert [e["target"]["label"] for e in explained] == ["star", "flower", "flower", "heart", "star", "star"]
    for explanation in explained:
        assert explanation["target"] == {**by_index[explanation["target"]["index"]], "chosen": "request"}
    assert explained[0] == explained[4] == explained[5]
    assert explained[1] == explained[2] != explained[0]


@pytest.mark.parametrize("target", ["1_0", "+3", " 3 ", "٣", "3.0", "1e1", "0x3"])
def test_text_that_is_no_plain_number_is_not_taken_for_an_index(client, png, target):
    assert problem(ask(client, "/explain", png, target=target), 422, "unknown_target")


def test_a_map_of_a_target_does_not_depend_on_the_others_of_the_request(client, png):
    alone = [values(explain(client, png, model="alexnet", output="map", target=t)["map"]) for t in (1, 2, 3)]
    response = ask(client, "/explain", png, model="alexnet", output="map", target=[3, 1, 2])
    together = [values(e["map"]) for e in result(response)["explanations"]]
    for cam, expected in zip(together, [alone[2], alone[0], alone[1]], strict=True):
        np.testing.assert_allclose(cam, expected, rtol=0, atol=1e-5 * max(float(expected.max()), 1e-6))
