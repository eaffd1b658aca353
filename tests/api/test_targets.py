"""What a request may have explained: classes, and a class against others, in every form of body."""

import json

import numpy as np
import pytest

from . import truth
from .calls import answered, ask, base64_of, explain, predict, problem, result, values

CONTRAST = {"class": "star", "against": "flower"}


def in_json(client, picture, target, **options):
    body = {"image": base64_of(picture), "target": target, "output": "map", **options}
    return result(client.post("/explain", json=body))["explanations"]


def test_a_contrast_in_each_form_is_the_same(client, scene):
    (by_json,) = in_json(client, scene, CONTRAST)
    text = json.dumps(CONTRAST)
    by_field = client.post("/explain", files={"image": scene}, data={"target": text, "output": "map"})
    query = {"target": text, "output": "map"}
    by_query = client.post("/explain", content=scene, params=query, headers={"Content-Type": "image/jpeg"})
    assert [by_json] == result(by_field)["explanations"] == result(by_query)["explanations"]


def test_an_answer_tells_what_was_compared_and_by_how_much(client, scene):
    by_label = {one["label"]: one for one in predict(client, scene, top_k=12)}
    against = [{"index": by_label[label]["index"], "label": label} for label in ("flower", "heart")]
    asked = [
        CONTRAST,
        {"class": 10, "against": ["flower", against[1]["index"], "heart"]},
        {"class": "star", "against": "rest"},
    ]
    one, two, rest = in_json(client, scene, asked)
    logit = {label: prediction["logit"] for label, prediction in by_label.items()}
    star = {**by_label["star"], "chosen": "request"}
    assert one["target"] == {**star, "against": against[:1], "value": pytest.approx(logit["star"] - logit["flower"])}
    mean = (logit["flower"] + logit["heart"]) / 2
    assert two["target"] == {**star, "against": against, "value": pytest.approx(logit["star"] - mean)}
    others = np.mean([logit[label] for label in logit if label != "star"])
    assert rest["target"] == {**star, "against": "rest", "value": pytest.approx(logit["star"] - others, rel=1e-5)}


def test_a_map_is_the_relu_of_the_difference_of_the_weighted_sums(client, png, picture):
    """Of global average pooling → linear, Grad-CAM's weights are linear in what is explained."""
    sums = truth.weighted_sums(picture)
    top, second = (one["index"] for one in predict(client, png, model="resnet18", top_k=2))
    (ours,) = in_json(client, png, {"class": top, "against": [second, 7]}, model="resnet18")
    expected = np.maximum(0, sums[top] - (sums[second] + sums[7]) / 2)
    assert expected.max() > 1e-3
    np.testing.assert_allclose(values(ours["map"]), expected, rtol=0, atol=1e-4 * expected.max())


def test_targets_of_all_kinds_are_answered_as_each_alone(client, scene):
    asked = ["star", CONTRAST, 5, {"class": "flower", "against": "rest"}, json.dumps(CONTRAST)]
    together = in_json(client, scene, asked)
    for target, ours in zip(asked, together, strict=True):
        (alone,) = in_json(client, scene, target)
        assert ours["target"] == alone["target"]
        expected = values(alone["map"])
        np.testing.assert_allclose(values(ours["map"]), expected, rtol=0, atol=1e-5 * expected.max())


def test_images_of_a_batch_are_each_explained_for_the_contrast(client, scene, png):
    body = {"images": [base64_of(scene), base64_of(png)], "target": [CONTRAST, "star"], "output": "map"}
    results = answered(client.post("/explain", json=body))["results"]
    for picture, together in zip((scene, png), results, strict=True):
        alone = in_json(client, picture, [CONTRAST, "star"])
        assert [one["target"]["label"] for one in together["explanations"]] == ["star", "star"]
        for ours, theirs in zip(together["explanations"], alone, strict=True):
            expected = values(theirs["map"])
            np.testing.assert_allclose(values(ours["map"]), expected, rtol=0, atol=1e-4 * max(expected.max(), 1e-3))


@pytest.mark.parametrize(("target", "kind"), [("star", "unsigned"), (CONTRAST, "signed")])
def test_rises_map_of_a_difference_of_probabilities_has_a_sign(client, scene, target, kind):
    (found,) = in_json(client, scene, target, method="rise", masks=20)
    assert found["kind"] == kind
    assert (values(found["map"]) < 0).any() == (kind == "signed")


@pytest.mark.parametrize("target", ["Star", " STAR ", {"class": "STAR", "against": "Flower"}])
def test_a_class_is_named_in_any_case(client, scene, target):
    (found,) = in_json(client, scene, target)
    assert (found["target"]["index"], found["target"]["label"]) == (10, "star")


WRONG = [  # target, status, code, a part of the detail
    ({"class": "star", "against": "dragon"}, 422, "unknown_target", "flower"),
    ({"class": "dragon", "against": "star"}, 422, "unknown_target", "flower"),
    ({"class": "star", "against": "star"}, 422, "unknown_target", "itself"),
    ({"class": "star", "against": ["flower", 10]}, 422, "unknown_target", "itself"),
    ({"class": "star", "against": 12}, 422, "unknown_target", "0 to 11"),
    ({"class": "star", "against": []}, 400, "bad_option", "names no class"),
    ({"class": "star", "against": None}, 400, "bad_option", "by index or label"),
    ({"class": True, "against": "star"}, 400, "bad_option", "by index or label"),
    ({"class": "star", "against": {"class": 1}}, 400, "bad_option", "by index or label"),
    ({"class": "star", "against": "rest", "weight": 2}, 400, "bad_option", "against"),
    ({"against": "rest"}, 400, "bad_option", "against"),
    ({"class": "star"}, 400, "bad_option", "against"),
    ({}, 400, "bad_option", "by index or label"),
]


@pytest.mark.parametrize(("target", "status", "code", "part"), WRONG)
def test_a_wrong_target_is_refused_with_what_would_work(client, scene, target, status, code, part):
    as_json = client.post("/explain", json={"image": base64_of(scene), "target": [1, target]})
    assert part in problem(as_json, status, code)
    assert part in problem(ask(client, "/explain", scene, target=json.dumps(target)), status, code)


@pytest.mark.parametrize("text", ["{", '{"class": "star", "against": "flower"', "{star}", "{" * 5000])
def test_text_that_begins_like_an_object_and_is_none_is_refused(client, scene, text):
    detail = problem(ask(client, "/explain", scene, target=text), 400, "bad_option")
    assert "'target'" in detail
    assert len(detail) < 1000


def test_finercam_refuses_a_contrast_and_says_why(client, scene):
    response = ask(client, "/explain", scene, target=json.dumps(CONTRAST), method="finercam")
    detail = problem(response, 422, "unsupported_method")
    assert "star rather than flower" in detail
    assert "gradcam can" in detail


def test_the_schema_tells_what_an_object_may_be(client, scene):
    schema = client.get("/openapi.json").json()["paths"]["/explain"]["post"]["requestBody"]["content"]
    target = schema["application/json"]["schema"]["oneOf"][0]["properties"]["target"]
    assert "against" in json.dumps(target)
    assert "JSON text" in target["description"]
    assert explain(client, scene, target=json.dumps(CONTRAST))["target"]["against"]
