"""The model card's figures, measured again on fresh scenes through the HTTP API."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from api.calls import encoded, values
from gradcam_service.zoo.scenes import CLASSES, Scene, scene
from live import Service

FIRST_SEED = 700_000  # neither training's nor the model card's


class Seen(NamedTuple):
    """A scene and what the service says: probabilities (12,), and a map of 128×128 for each object."""

    scene: Scene
    probabilities: np.ndarray
    maps: list[np.ndarray]


def ask(service: Service, drawn: Scene) -> Seen:
    answer = service.client.post(
        "/explain",
        files={"image": encoded(Image.fromarray(drawn.image), "PNG")},
        data={"target": [CLASSES[thing.label] for thing in drawn.objects], "output": "map", "top_k": "12"},
    ).json()["results"][0]
    probabilities = np.zeros(len(CLASSES))
    for prediction in answer["predictions"]:
        probabilities[prediction["index"]] = prediction["probability"]
    return Seen(drawn, probabilities, [upsampled(explanation["map"]) for explanation in answer["explanations"]])


def upsampled(body: dict) -> np.ndarray:
    large = interpolate(torch.tensor(values(body))[None, None], (128, 128), mode="bilinear", align_corners=False)
    return large[0, 0].numpy()


def points_at(cam: np.ndarray, mask: np.ndarray) -> bool:
    return bool(mask.flat[cam.argmax()])


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Mean, over the relevant items, of the precision at their rank."""
    hits = relevant[np.argsort(-scores)]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


@pytest.fixture(scope="module")
def ordinary(service: Service) -> list[Seen]:
    return [ask(service, scene(FIRST_SEED + i)) for i in range(300)]


def test_mean_average_precision(ordinary: list[Seen]):
    present = np.array([np.isin(np.arange(12), [o.label for o in seen.scene.objects]) for seen in ordinary])
    scores = np.array([seen.probabilities for seen in ordinary])
    assert np.mean([average_precision(present[:, c], scores[:, c]) for c in range(12)]) >= 0.97


def test_pointing_game(ordinary: list[Seen]):
    hits = [points_at(cam, o.mask) for seen in ordinary for o, cam in zip(seen.scene.objects, seen.maps, strict=True)]
    assert len(hits) > 600
    assert np.mean(hits) >= 0.90


def test_both_of_two_objects_are_pointed_at(service: Service):
    pairs = [ask(service, scene(FIRST_SEED + 1000 + i, objects=2)) for i in range(200)]
    both = [all(points_at(cam, o.mask) for o, cam in zip(p.scene.objects, p.maps, strict=True)) for p in pairs]
    assert np.mean(both) >= 0.85
