"""A model that a process of its own has traced is the one traced here, and what ends that process fails it alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.registry import traces
from gradcam_service.registry.apart import Surroundings, Tracer
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import parse_spec, scan
from gradcam_service.runtime.onnxruntime import open_session

SURROUNDINGS = Surroundings(log_level="warning")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_the_one_traced_here_and_comes_with_its_backbone(monkeypatch, tmp_path):
    entry = next(entry for entry in scan(()) if entry.name == "scenes")
    here = load(entry, torch.device("cpu"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with monkeypatch.context() as patched:
        patched.setattr(traces, "trace_of", None)  # not in this process
        apart = load(entry, torch.device("cpu"), surroundings=SURROUNDINGS)
    assert apart.card == here.card
    images = torch.randn(2, 3, *here.card.preprocess.input_size)
    assert torch.equal(apart.network.scores(images), here.network.scores(images))
    (features,) = open_session(apart.exporter()).run(None, {"images": images.numpy()})
    assert_close(torch.from_numpy(features), here.network.backbone(images), rtol=1e-4, atol=1e-4)
    assert load(entry, torch.device("cpu"), surroundings=SURROUNDINGS).exporter.is_ready()  # kept from now on


def test_what_is_wrong_with_a_model_is_said_as_if_it_were_traced_here(tmp_path):
    text = "source: torchvision\narchitecture: resnet81\nweights: random:0"
    folder = ModelFolder(parse_spec(text, "model.yaml"), tmp_path)
    with pytest.raises(ModelFailed) as here:
        traces.traced(folder)
    with pytest.raises(ModelFailed) as apart:
        traces.traced(folder, SURROUNDINGS)
    assert apart.value.detail == here.value.detail


def test_a_process_that_is_killed_fails_its_load_and_says_what_it_may_have_been(tmp_path):
    text = "source: torchvision\narchitecture: resnet18\nweights: random:0"
    tracer = Tracer(ModelFolder(parse_spec(text, "model.yaml"), tmp_path), "key", SURROUNDINGS)
    (process,) = (child for child in multiprocessing.active_children() if child.name == "tracer")
    os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(ModelFailed, match="was killed; there may not have been enough memory"):
        tracer.await_trace()


def test_a_process_that_nobody_waits_for_any_more_ends(tmp_path):
    text = "source: torchvision\narchitecture: resnet18\nweights: random:0"
    tracer = Tracer(ModelFolder(parse_spec(text, "model.yaml"), tmp_path), "key", SURROUNDINGS)
    assert tracer.alive
    del tracer
    assert not [child for child in multiprocessing.active_children() if child.name == "tracer"]
