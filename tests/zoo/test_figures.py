"""The model card's figures, measured again on fresh scenes.

``make test-all`` measures the network with the closed form of its Grad-CAM, and the service; that both answer the same
is seen here on some of the scenes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from api.calls import encoded, values
from gradcam_service.zoo.evaluate import grad_cam
from gradcam_service.zoo.network import normalise, scenes_network
from gradcam_service.zoo.scenes import CLASSES, Scene, scene
from gradcam_service.zoo.train import MODEL
from live import Service

FIRST_SEED = 700_000  # neither training's nor the model card's


class Seen(NamedTuple):
    """A scene and what the service says: probabilities (12,), and a map of 128×128 for each object."""

    scene: Scene
    probabilities: np.ndarray
    maps: list[np.ndarray]


Ask = Callable[[Scene], Seen]


def asking_the_service(service: Service) -> Ask:
    def ask(drawn: Scene) -> Seen:
        answer = service.client.post(
            "/explain",
            files={"image": encoded(Image.fromarray(drawn.image), "PNG")},
            data={"target": [CLASSES[thing.label] for thing in drawn.objects], "output": "map", "top_k": "12"},
        ).json()["results"][0]
        probabilities = np.zeros(len(CLASSES))
        for prediction in answer["predictions"]:
            probabilities[prediction["index"]] = prediction["probability"]
        maps = [torch.tensor(values(explanation["map"])) for explanation in answer["explanations"]]
        return Seen(drawn, probabilities, [upsampled(one) for one in maps])

    return ask


def asking_the_network() -> Ask:
    network = scenes_network().eval()
    network.load_state_dict(load_file(MODEL / "weights.safetensors"))

    def ask(drawn: Scene) -> Seen:
        images = normalise(torch.from_numpy(drawn.image)[None])
        with torch.inference_mode():
            probabilities = network(images)[0].sigmoid().numpy()
        targets = torch.tensor([thing.label for thing in drawn.objects])
        maps = grad_cam(network, images.expand(len(targets), -1, -1, -1), targets)
        return Seen(drawn, probabilities, [upsampled(one) for one in maps])

    return ask


@pytest.fixture(scope="module", params=["network", "service"])
def ask(request: pytest.FixtureRequest) -> Ask:
    if request.param == "network":
        return asking_the_network()
    return asking_the_service(request.getfixturevalue("service"))


def upsampled(cam: torch.Tensor) -> np.ndarray:
    large = interpolate(cam[None, None], (128, 128), mode="bilinear", align_corners=False)
    return large[0, 0].numpy()


def points_at(cam: np.ndarray, mask: np.ndarray) -> bool:
    return bool(mask.flat[cam.argmax()])


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Mean, over the relevant items, of the precision at their rank."""
    hits = relevant[np.argsort(-scores)]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


@pytest.fixture(scope="module")
def ordinary(ask: Ask) -> list[Seen]:
    return [ask(scene(FIRST_SEED + i)) for i in range(150)]


def test_the_service_answers_what_is_measured(service: Service):
    of_service, of_network = asking_the_service(service), asking_the_network()
    for drawn in [scene(FIRST_SEED + i) for i in range(10)]:
        found, expected = of_service(drawn), of_network(drawn)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)
        for one, other in zip(found.maps, expected.maps, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * max(1e-3, other.max()))


@pytest.mark.exhaustive
def test_mean_average_precision(ordinary: list[Seen]):
    present = np.array([np.isin(np.arange(12), [o.label for o in seen.scene.objects]) for seen in ordinary])
    scores = np.array([seen.probabilities for seen in ordinary])
    assert np.mean([average_precision(present[:, c], scores[:, c]) for c in range(12)]) >= 0.97


@pytest.mark.exhaustive
def test_pointing_game(ordinary: list[Seen]):
    hits = [points_at(cam, o.mask) for seen in ordinary for o, cam in zip(seen.scene.objects, seen.maps, strict=True)]
    assert len(hits) > 300
    assert np.mean(hits) >= 0.90


@pytest.mark.exhaustive
def test_both_of_two_objects_are_pointed_at(ask: Ask):
    pairs = [ask(scene(FIRST_SEED + 1000 + i, objects=2)) for i in range(100)]
    both = [all(points_at(cam, o.mask) for o, cam in zip(p.scene.objects, p.maps, strict=True)) for p in pairs]
    assert np.mean(both) >= 0.85
