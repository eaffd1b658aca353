"""The embedded model `imagenet` names photographs, as its card says."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from live import PATIENCE

from .calls import explain, predict, values

ASKED = {"model": "imagenet", "timeout_ms": 120_000}
"""Loaded when it is first asked for, as these services have another default."""


def foolbox():
    """Photographs of ImageNet's classes that foolbox carries, in the order of their names, and their classes."""
    (folder,) = find_spec("foolbox").submodule_search_locations
    files = sorted((Path(folder) / "data").glob("imagenet_*.jpg"))
    return [(file.read_bytes(), int(re.search(r"_(\d+)\.jpg$", file.name)[1])) for file in files]


def test_eighteen_of_twenty_photographs_are_named(client):
    photographs = foolbox()
    files = [("image", (f"{number}.jpg", data)) for number, (data, _) in enumerate(photographs)]
    answer = client.post("/predict", files=files, data=ASKED | {"top_k": 1}, timeout=PATIENCE).json()
    named = [answered["predictions"][0]["index"] for answered in answer["results"]]
    assert len(named) == 20
    wrong = [number for number, (_, truth) in enumerate(photographs) if named[number] != truth]
    assert wrong == [6, 7], "an old car and another, of which one file says jeep"


@pytest.mark.parametrize(
    ("name", "label", "probability"),
    [("camera", "tripod", 0.93), ("coffee", "espresso", 0.94), ("cat", "tiger cat", 0.39)],
)
def test_the_pages_photographs_are_named(client, name, label, probability):
    photograph = client.get(f"/docs/{name}.jpg").content
    (first, *_) = predict(client, photograph, **ASKED)
    assert (first["label"], first["probability"]) == (label, pytest.approx(probability, abs=0.01))


def test_the_tripod_and_the_camera_are_found_where_they_are(client):
    """The legs are in the lower half of what the model sees of the photograph, the camera in the upper."""
    photograph = client.get("/docs/camera.jpg").content
    found = {}
    for label in ("tripod", "reflex camera"):
        explanation = explain(client, photograph, target=label, output="map", **ASKED)
        cells = values(explanation["map"])
        assert cells.shape == (7, 7)
        found[label] = divmod(int(cells.argmax()), 7)
    assert found["tripod"][0] >= 4
    assert found["reflex camera"][0] <= 3
