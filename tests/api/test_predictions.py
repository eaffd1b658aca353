"""Predictions: which classes, how many, in which order, how probable."""

import numpy as np
import pytest

from . import truth
from .calls import ask, predict, problem


def test_resnet18_has_the_labels_of_its_torchvision_weights(client, png):
    categories = truth.torchvision.models.get_model_weights("resnet18").DEFAULT.meta["categories"]
    predictions = predict(client, png, model="resnet18", top_k=1000)
    assert {p["index"]: p["label"] for p in predictions} == dict(enumerate(categories))


@pytest.mark.parametrize(("asked", "reported"), [(1, 1), (2, 2), (12, 12), (1000, 12)])
def test_top_k_bounds_how_many_classes_are_reported(client, png, asked, reported):
    assert len(predict(client, png, top_k=asked)) == reported


def test_five_classes_are_reported_by_default(client, png):
    assert len(predict(client, png)) == 5


@pytest.mark.parametrize("top_k", [0, -1, 1001])
def test_a_top_k_out_of_bounds_is_refused_with_the_bound(client, png, top_k):
    detail = problem(ask(client, "/predict", png, top_k=top_k), 400, "bad_option")
    assert "top_k" in detail
    assert ("1000" if top_k > 0 else "1") in detail


@pytest.mark.parametrize("model", ["scenes", "resnet18", "alexnet"])
def test_the_most_probable_class_comes_first(client, png, model):
    predictions = predict(client, png, model=model, top_k=1000)
    scores = np.array([p["logit"] for p in predictions])
    assert (np.diff(scores) <= 0).all()
    assert sorted(p["index"] for p in predictions) == list(range(len(scores)))
    assert predict(client, png, model=model, top_k=3) == predictions[:3]


@pytest.mark.parametrize("model", ["resnet18", "alexnet"])
def test_probabilities_are_the_softmax_of_the_logits(client, png, model):
    predictions = predict(client, png, model=model, top_k=1000)
    exponentials = np.exp(np.array([p["logit"] for p in predictions], dtype=np.float64))
    expected = exponentials / exponentials.sum()
    np.testing.assert_allclose([p["probability"] for p in predictions], expected, rtol=1e-9)


def test_probabilities_of_a_multi_label_model_are_the_sigmoid_of_the_logits(client, scene):
    predictions = predict(client, scene, model="scenes", top_k=12)
    expected = 1 / (1 + np.exp(-np.array([p["logit"] for p in predictions], dtype=np.float64)))
    np.testing.assert_allclose([p["probability"] for p in predictions], expected, rtol=1e-9)
    assert sum(p["probability"] > 0.5 for p in predictions) == 2  # a star and a flower: they don't exclude each other


def test_the_default_model_is_scenes(client, scene):
    assert ask(client, "/predict", scene).json()["model"]["name"] == "scenes"


@pytest.mark.parametrize("model", ["resnet18", "resnet18@1", "resnet18@stable"])
def test_a_model_is_named_alone_by_version_or_by_alias(client, png, model):
    body = ask(client, "/predict", png, model=model).json()
    assert (body["model"]["name"], body["model"]["version"]) == ("resnet18", "1")


def test_explain_gives_the_same_predictions_as_predict(client, png):
    asked = {"model": "alexnet", "top_k": 20}
    assert ask(client, "/explain", png, **asked).json()["results"][0]["predictions"] == predict(client, png, **asked)
