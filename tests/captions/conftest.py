"""A repository of captioners, served and in this process."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradcam_service.local import open_model
from gradcam_service.settings import Settings
from live import running_eagerly

from .decoders import LENGTH, SIDE, WORDS

MODEL = """\
source: python
architecture: decoders:{factory}
task: captioning
tokenizer: vocabulary.txt
length: {length}
preprocess: {{resize: [{side}, {side}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
layer: {layer}
runtime: eager
load: demand
"""


@pytest.fixture(scope="session")
def captioners(tmp_path_factory):
    """Settings: a captioner of each kind, and some that can't be one."""
    root, code = tmp_path_factory.mktemp("captioners"), tmp_path_factory.mktemp("code")
    shutil.copy(Path(__file__).with_name("decoders.py"), code)
    for name, factory in {"attends": "made", "pooled": "pooled", "peeking": "peeking", "alone": "alone"}.items():
        folder, layer = root / name / "1", "features" if name in ("attends", "pooled") else "auto"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(MODEL.format(factory=factory, length=LENGTH, side=SIDE, layer=layer))
        (folder / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")
    return {"model_repository": str(root), "python_path": str(code), "device": "cpu"}


@pytest.fixture(scope="session")
def opened(captioners):
    """Opens one of them in this process, once."""
    found = {}

    def model(name):
        if name not in found:
            found[name] = open_model(name, Settings(**captioners))
        return found[name]

    return model


@pytest.fixture(scope="session")
def client(captioners):
    with running_eagerly(**captioners) as started:
        yield started.client


@pytest.fixture(scope="session")
def pictures():
    """Ten of them, as PNG files."""
    drawn = np.random.default_rng(1).integers(0, 256, (10, 4, 4, 3), np.uint8)
    return [png(np.repeat(np.repeat(one, 8, 0), 8, 1)) for one in drawn]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
