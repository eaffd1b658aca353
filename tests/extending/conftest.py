"""A service with the made-up plugins of ``tests/plugins``, and a model for each that needs one."""

import pytest

from live import running_eagerly
from repository import ROOT

PLUGINS = ROOT / "tests" / "plugins"
STAGES = ["seed", "germ", "sprout", "seedling", "leaf", "stem", "bud", "flower", "pollen", "fruit", "ripe", "withered"]
SCENES = (
    "source: zoo\narchitecture: scenes\nweights: random:0\nlabels: labels.txt\nruntime: eager\n"
    "preprocess: {pad: 128, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}\n"
)
MODELS = {
    "plants": f"{SCENES}task: maturity\n",
    "undotted": SCENES,
    "dotted": f"{SCENES}input: {{kind: dots}}\n",
    "shades": (
        "source: colours\narchitecture: blue+red\nruntime: double\n"
        "preprocess: {resize: [4, 4], mean: [0.2, 0.2, 0.2], std: [0.5, 0.5, 0.5]}\n"
    ),
}
"""``model.yaml`` of each; beside it lies ``labels.txt`` with the `STAGES`."""


@pytest.fixture(scope="session")
def plugged(tmp_path_factory):
    """Settings of a service with the made-up plugins and the models that need them."""
    root = tmp_path_factory.mktemp("plugged")
    for name, text in MODELS.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(text)
        (folder / "labels.txt").write_text("\n".join(STAGES))
    return {"plugins": PLUGINS, "model_repository": root}


@pytest.fixture(scope="session")
def service(plugged):
    """It runs; it takes bodies of 100,000 bytes, and 20 connections."""
    with running_eagerly(**plugged, max_body_bytes=100_000, max_connections=20) as started:
        yield started


@pytest.fixture(scope="session")
def client(service):
    """Speaks to it."""
    return service.client
