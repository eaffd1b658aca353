"""Made-up kinds of everything, one file each in tests/plugins, in a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from api.calls import BINARY, values
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.zoo.scenes import CLASSES
from live import Service, running_eagerly
from repository import ROOT

PLUGINS = ROOT / "tests" / "plugins"
SCENE = (ROOT / "service" / "gradcam_service" / "api" / "examples" / "scene.jpg").read_bytes()
"""A star and a flower."""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the plugins, and the embedded model once more as a model of each made-up task and source."""
    root = tmp_path_factory.mktemp("models")
    put(root, "tallying", task="tally")
    with running_eagerly(plugins=PLUGINS, model_repository=root) as service:
        yield service


def put(root: Path, name: str, **changes: str) -> None:
    """The embedded model under another name, with lines of its model.yaml changed."""
    folder, embedded = root / name / "1", EMBEDDED / "scenes" / "1"
    folder.mkdir(parents=True)
    for file in ("labels.txt", "weights.safetensors"):
        (folder / file).write_bytes((embedded / file).read_bytes())
    lines = dict(line.split(": ", 1) for line in (embedded / "model.yaml").read_text().splitlines())
    lines |= {"runtime": "eager"} | changes
    (folder / "model.yaml").write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))


def test_a_method_explains_with_its_own_options(extended: Service):
    """The head of scenes is global average pooling → linear: dy/dA is w/Z in each of Z cells."""
    url = "/explain?method=sensitivity&power=2&target=star&output=map"
    (result,) = extended.client.post(url, content=SCENE, headers=BINARY).json()["results"]
    found = values(result["explanations"][0]["map"])
    weights = load_file(EMBEDDED / "scenes" / "1" / "weights.safetensors")["fc.weight"][CLASSES.index("star")]
    expected = np.full(found.shape, (weights / found.size).square().sum())
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert "sensitivity" in extended.client.get("/models/scenes").json()["methods"]
    refused = extended.client.post(url.replace("=2", "=5"), content=SCENE, headers=BINARY)
    assert "power must be at most 4" in refused.json()["detail"]


def test_a_task_says_what_its_models_predict(extended: Service):
    said = extended.client.post("/predict?model=tallying", content=SCENE, headers=BINARY).json()
    assert said["results"] == [{"shown": ["flower", "star"]}]
    explained = extended.client.post("/explain?model=tallying&target=star", content=SCENE, headers=BINARY).json()
    (result,) = explained["results"]
    assert result["shown"] == ["flower", "star"]
    assert result["explanations"][0]["target"]["label"] == "star"
    document = extended.client.get("/openapi.json").json()
    assert "shown" in document["components"]["schemas"]["PredictResult"]["properties"]
    assert "tally" in extended.client.get("/docs/model.schema.json").json()["properties"]["task"]["enum"]


def test_a_dialect_answers_under_its_paths_in_its_own_words(extended: Service):
    answer = extended.client.post("/plain/scenes", content=SCENE)
    assert answer.headers["content-type"].startswith("text/plain")
    assert {line.split()[1] for line in answer.text.splitlines()[:2]} == {"flower", "star"}
    refused = extended.client.post("/plain/nothing", content=SCENE)
    assert refused.status_code == 404
    assert refused.text.startswith("unknown_model: ")
    assert extended.client.post("/predict?model=nothing", content=SCENE, headers=BINARY).json()["status"] == 404
