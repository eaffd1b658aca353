"""A kind of target is one file: ``tests/plugins/product.py``."""

import json
import shutil

import numpy as np
import pytest

from api.calls import ask, explain, predict, problem, values
from command import gradcam
from repository import ROOT


@pytest.fixture(scope="module")
def scene(client):
    return client.get("/docs/scene.jpg").content


@pytest.fixture(scope="module")
def by_label(client, scene):
    return {one["label"]: one for one in predict(client, scene, top_k=12)}


def product(*targets):
    return json.dumps({"product": [target["index"] for target in targets]})


PLAIN = {"method": "smoothgrad", "samples": 1, "noise": 0, "output": "map"}
"""The gradient, as it is."""


def test_a_target_is_explained_and_told_of(client, scene, by_label):
    star, flower = by_label["star"], by_label["flower"]
    found = explain(client, scene, target=product(star, flower), **PLAIN)
    value = pytest.approx(star["logit"] * flower["logit"], rel=1e-4)
    assert found["target"] == {"labels": ["star", "flower"], "product": value}
    one, other = (values(explain(client, scene, target=label, **PLAIN)["map"]) for label in ("star", "flower"))
    expected = flower["logit"] * one + star["logit"] * other  # the product rule
    np.testing.assert_allclose(values(found["map"]), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_command_line_explains_it_too(plugged, tmp_path):
    picture, named = tmp_path / "scene.jpg", tmp_path / "cam.png"
    shutil.copy(ROOT / "service/gradcam_service/api/examples/scene.jpg", picture)
    done = gradcam("explain", picture, "--target", '{"product": [5, 10]}', "--target", "star", "-o", named, **plugged)
    assert done.returncode == 0, done.stderr
    product, star = done.stdout.splitlines()
    assert product.startswith("Explained(labels=['flower', 'star'], product=")
    assert star.endswith(f"star  → {tmp_path / 'cam-star.png'}")
    assert {path.name for path in tmp_path.glob("cam*")} == {"cam-flower times star.png", "cam-star.png"}


def test_targets_of_all_kinds_go_together_in_one_batch(client, scene, by_label):
    star, flower = by_label["star"], by_label["flower"]
    kinds = ["star", product(star, flower), json.dumps({"class": "star", "against": "flower"}), "flower"]
    together = ask(client, "/explain", scene, target=kinds, output="map").json()["results"][0]["explanations"]
    for target, ours in zip(kinds, together, strict=True):
        expected = values(explain(client, scene, target=target, output="map")["map"])
        np.testing.assert_allclose(values(ours["map"]), expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("target", "status", "code", "part"),
    [({"product": [1]}, 400, "bad_option", "of two classes"), ({"product": [1, 12]}, 422, "unknown_target", "0 to 11")],
)
def test_what_a_target_refuses_is_refused(client, scene, target, status, code, part):
    assert part in problem(ask(client, "/explain", scene, target=json.dumps(target)), status, code)


def test_a_target_is_in_the_documentation(client):
    document = json.dumps(client.get("/openapi.json").json())
    assert "the product of two logits" in document
