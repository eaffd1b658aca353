"""The page docs/serve-your-model.md as a new user would go through it: every command on real, small files.

``make test-all`` goes through it: half of a minute goes by until every framework is imported that the page names.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from command import gradcam
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from repository import ROOT

PAGE = (ROOT / "docs/serve-your-model.md").read_text()
MADE = {"Keras and TensorFlow": ROOT / "tests/registry/keras", "JAX and Flax": ROOT / "tests/registry/flax_model"}
"""Sections whose framework isn't installed: a model that it made once, and what it said of it."""
BLOCK = re.compile(
    r"^<!-- not run: [^\n]*-->\n```\w+\n.*?^```|^<!-- (?P<prepare>prepare)\n(?P<code>.*?)^-->"
    r"|^```(?P<language>\w+)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
SERVED = {
    "A fine-tuned network of torchvision": "birds/1",
    "A checkpoint with the optimizer in it": "birds/2",
    "DataParallel and torch.compile": "birds/3",
    "PyTorch Lightning": "birds/4",
    "A fine-tuned network of timm": "timm/1",
    "A model of timm from Hugging Face's hub": "hub/1",
    "A folder of Hugging Face transformers": "vit/1",
    "Keras and TensorFlow": "keras/1",
    "Keras on PyTorch": "keras/2",
    "JAX and Flax": "jax/1",
    "TorchScript": "script/1",
    "Ultralytics YOLO": "yolo/1",
    "ONNX": "onnx/1",
    "A captioner": "captioner/1",
    "A network that answers questions": "answerer/1",
    "A policy of stable-baselines3": "agent/1",
    "A network of your own code": "own/1",
}

LABELS = {
    "A captioner": ["<pad>", "<start>", "<end>", "a", "red", "blue", "star", "fish", "left", "of"],
    "A network that answers questions": ["yes", "no", "red", "blue"],
    "A policy of stable-baselines3": ["noop", "fire", "up", "right", "left", "down"],
}
"""Of the sections whose classes are no cat, dog and bird."""


def run(line: str) -> str:
    """A line of a shell; `gradcam` in this process, which has imported torch already."""
    words = shlex.split(line)
    if words[0] == "export":
        os.environ.update([words[1].split("=")])
        return ""
    if words[0] != "gradcam":
        return subprocess.run(["sh", "-ec", line], check=True, capture_output=True, text=True).stdout
    done = gradcam(*words[1:])
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


class Walk:
    """The page from its top to its end, in one folder and one Python, and what each section has come to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models: dict[str, Any] = {}
        self.said: dict[str, str] = {}
        keras, jax = (str(made / "model.onnx") for made in MADE.values())
        known: dict[str, Any] = {"KERAS": keras, "JAX": jax}
        for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
            title = section.partition("\n")[0]
            for block in BLOCK.finditer(section):
                if block["prepare"] or block["language"] == "python":
                    exec(block["code"] or block["text"], known)
                elif block["language"] == "sh":
                    self.said[title] = self.said.get(title, "") + "".join(map(run, block["text"].splitlines()))
            self.models[title] = known.get("model")

    def served(self, title: str) -> LoadedModel:
        name, version = SERVED[title].split("/")
        entry = Entry(name, version, LocalPlace(self.folder / "models" / name / version))
        return load(entry, torch.device("cpu"), self.folder / "code")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder, before = tmp_path_factory.mktemp("page"), Path.cwd()
    os.chdir(folder)
    try:
        with patch.dict(os.environ), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield Walk(folder)
    finally:
        os.chdir(before)


def test_every_section_is_tried():
    assert SERVED.keys() == set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))


AGAIN = [title for title, place in SERVED.items() if place in ("birds/2", "birds/3", "birds/4")]
"""Sections in which the weights of the first are found once more."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("title", AGAIN)
def test_the_same_weights_are_found_in_every_checkpoint(walk: Walk, title: str):
    first, again = (walk.folder / "models" / place / "model.safetensors" for place in ("birds/1", SERVED[title]))
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.exhaustive
@pytest.mark.parametrize("title", [title for title in SERVED if title not in AGAIN])
def test_a_section_comes_to_a_model_that_answers_as_it_did_where_it_was_made(walk: Walk, title: str):
    served = walk.served(title)
    beside: list[torch.Tensor] = []
    if title in MADE:
        expected = np.load(MADE[title] / "expected.npz")
        images, scores = torch.from_numpy(expected["images"]).permute(0, 3, 1, 2), torch.from_numpy(expected["logits"])
    else:
        height, width = served.card.preprocess.input_size
        channels = len(served.card.preprocess.mean)
        images = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
        text = served.card.text
        beside += [] if text is None else [torch.from_numpy(text.example()).repeat(2, 1)]
        with torch.no_grad():
            scores = walk.models[title].eval()(images, *beside)
        scores = torch.cat(scores, 1) if isinstance(scores, tuple) else getattr(scores, "logits", scores)
        assert served.card.labels == LABELS.get(title, ["cat", "dog", "bird"])
    with torch.no_grad():
        assert_close(served.network.scores(images, *beside), scores.flatten(1), rtol=0, atol=1e-4)
    assert "gradcam" in served.card.method_names()


@pytest.mark.exhaustive
def test_a_prediction_on_the_page_names_the_classes(walk: Walk):
    assert {"cat", "dog", "bird"} <= set(walk.said["A folder of Hugging Face transformers"].split())
