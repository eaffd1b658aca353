"""Quality of single maps: what the answer says is what deletion, insertion and ranks of the answer's own maps are."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch.nn.functional import interpolate

from gradcam_service.zoo.scenes import scene as drawn_scene

from .calls import ask, encoded, explain, problem, result, values
from .truth import model_input, network

STEPS = 4


def ordered(saliency):
    return np.argsort(-saliency.ravel(), kind="stable")


def area(pictures, value):
    """By the trapezoidal rule, of equal steps."""
    with torch.no_grad():
        seen = value(network("resnet18")(torch.from_numpy(np.stack(pictures))).softmax(1)).double().numpy()
    return float((seen[1:] + seen[:-1]).mean() / 2)


def curves(image, order, value):
    """Areas under the curves of deletion and insertion."""
    image = image.numpy()[0]
    soft = np.stack([gaussian_filter(band, 5, truncate=1, mode="nearest") for band in image])
    areas = []
    for start, end in ((image, np.zeros_like(image)), (soft, image)):
        pictures = []
        for step in range(STEPS + 1):
            picture = start.reshape(3, -1).copy()
            gone = order[: len(order) * step // STEPS]
            picture[:, gone] = end.reshape(3, -1)[:, gone]
            pictures.append(picture.reshape(image.shape))
        areas.append(area(pictures, value))
    return areas


def test_areas_are_those_of_the_answers_own_map(client, picture, png):
    asked = {"model": "resnet18", "method": "integrated_gradients", "steps": 2, "output": "map"}
    targets = {3: lambda p: p[:, 3], '{"class": 7, "against": 9}': lambda p: p[:, 7] - p[:, 9]}
    asked |= {"quality": True, "quality_steps": STEPS, "target": list(targets)}
    explanations = result(ask(client, "/explain", png, **asked))["explanations"]
    for explanation, value in zip(explanations, targets.values(), strict=True):
        order = ordered(np.abs(values(explanation["map"])).mean(2))
        expected = curves(model_input("resnet18", picture), order, value)
        quality = explanation["quality"]
        assert quality["steps"] == STEPS
        assert [quality["deletion"], quality["insertion"]] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("asked", "against"),
    [
        ({"method": "xgradcam"}, "gradcam"),
        ({}, "layercam"),
        ({"quality_against": "eigencam"}, "eigencam"),
        ({"quality_against": "hirescam", "layer": "layer3"}, "hirescam"),
    ],
)
def test_agreement_is_that_of_the_two_maps(client, png, asked, against):
    given = {"model": "resnet18", "output": "map", "target": 5}
    quality = explain(client, png, **given, **asked, quality=True, quality_steps=1)["quality"]
    assert quality["against"] == against
    layer = {"layer": asked.get("layer", "auto")}
    patches = []
    for method in (asked.get("method", "gradcam"), against):
        cam = values(explain(client, png, **given, **layer, method=method)["map"])
        own = torch.from_numpy(cam.astype(np.float64))[None, None]
        large = interpolate(own, (224, 224), mode="bilinear")[0, 0].numpy()
        means = large.reshape(14, 16, 14, 16).mean((1, 3)).ravel()
        patches.append(np.round(means / abs(means).max(), 12))  # of which many are the same, but for rounding
    assert quality["agreement"] == pytest.approx(spearmanr(*patches).statistic, abs=1e-6)


def test_a_map_of_the_object_is_better_than_its_counterfactual(client):
    scene = encoded(Image.fromarray(drawn_scene(3, objects=2).image), "PNG")
    good, bad = (
        explain(client, scene, model="scenes", quality=True, method=method)["quality"]
        for method in ("gradcam", "gradcam_counterfactual")
    )
    assert good["deletion"] < 0.1 < 0.8 < bad["deletion"]
    assert good["insertion"] > 0.9 > 0.2 > bad["insertion"]
    assert bad["agreement"] < 0 < good["agreement"]


def test_nothing_is_measured_unless_asked_for(client, png):
    assert "quality" not in explain(client, png, model="resnet18", output="map", quality_steps=3)


def test_passes_of_quality_count(client, png):
    """1 and 4600 of RISE; 2 curves of 100 steps are 202 pictures for each of two targets."""
    asked = {"model": "resnet18", "method": "rise", "masks": 4600, "quality": True, "quality_steps": 100}
    refused = problem(ask(client, "/explain", png, **asked, target=[1, 2]), 422, "too_expensive")
    assert "5006 forward passes" in refused
    assert "quality" in refused


def test_the_other_method_has_to_be_one_that_can(client, png):
    wrong = problem(ask(client, "/explain", png, quality=True, quality_against="gradcan"), 422, "unsupported_method")
    assert "'gradcam'" in wrong
    asked = {"model": "resnet18", "quality": True, "quality_against": "cam", "layer": "layer2"}
    assert "cam" in problem(ask(client, "/explain", png, **asked), 422, "unsupported_method")
    assert "steps" in problem(ask(client, "/explain", png, quality=True, quality_steps=101), 400, "bad_option")


def test_the_quality_of_a_map_that_is_zero_has_no_agreement(client):
    grey = encoded(Image.new("RGB", (128, 128), (128, 128, 128)), "PNG")
    explanation = explain(client, grey, model="scenes", target="star", quality=True, quality_steps=2)
    assert explanation["empty"]
    assert "agreement" not in explanation["quality"]
    assert explanation["quality"]["deletion"] == pytest.approx(explanation["quality"]["insertion"], abs=0.05)
