"""Verdicts of whole reports: a method that ignores the network, and groups of pictures that are looked at elsewhere."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import gradcam
from gradcam_service.evaluate.protocols import PROTOCOLS, Of

EDGES = '''
from torch.nn.functional import pad

from gradcam_service.explain.method import Iterative


def edges(subject):
    """How much brighter or darker a pixel is than those beside and below it."""
    yield
    grey = subject.image[0].mean(0)
    down, right = (pad(grey.diff(dim=0), (0, 0, 0, 1)), pad(grey.diff(dim=1), (0, 1)))
    return (down.abs() + right.abs()).expand(len(subject.objectives), -1, -1)


METHOD = Iterative(
    title="Edges",
    summary="edges, whether or not they speak for {target}",
    paper="https://arxiv.org/abs/1810.03292",
    needs=set(),
    steps=edges,
    passes=lambda case: 0,
)
'''

DETECTORS = """
import torch
from torch import nn


def detectors(weight_of_the_mark):
    '''Red is what class 1 is; blue is the mark, which a biased model takes for it, too.'''
    conv, linear = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[:, :, None, None])
        linear.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, weight_of_the_mark]]))
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
"""
MODEL_YAML = """\
source: python
architecture: detectors:detectors
options: {{weight_of_the_mark: {}}}
labels: [none, red]
runtime: eager
preprocess: {{resize: 24, crop: 24, mean: [0, 0, 0], std: [1, 1, 1]}}
"""
SIDE, PICTURES = 24, 40


def results(report: Path) -> dict[str, Any]:
    return json.loads((report / "results.json").read_text())["protocols"]


def test_a_method_that_looks_at_the_picture_alone_is_named(models: Path, tmp_path: Path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "edges.py").write_text(EDGES)
    asked = ("scenes", "--model", "still", "--methods", "gradcam,edges", "--protocols", "sanity", "--limit", 4)
    arguments = ("evaluate", *asked, "--set", "sanity.stages=2", "-o", tmp_path / "report")
    done = gradcam(*arguments, model_repository=models, cpus=1, plugins=tmp_path / "plugins")
    assert done.returncode == 0, done.stderr
    sanity = results(tmp_path / "report")["sanity"]
    (note,) = sanity["notes"]
    assert note.startswith("edges: the maps stay")
    assert note in (tmp_path / "report" / "report.html").read_text()
    assert {name: of["mean"] for name, of in sanity["methods"]["edges"].items()} == {"ssim": 1.0, "rank": 1.0}
    assert all(of["mean"] < 0.9 for of in sanity["methods"]["gradcam"].values())


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Reports on red squares at random places, half of them with a mark in the corner.

    By a model that takes the mark for red, and by one that doesn't.
    """
    folder = tmp_path_factory.mktemp("bias")
    (folder / "code").mkdir()
    (folder / "code" / "detectors.py").write_text(DETECTORS)
    with (folder / "data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "group"))
        random = np.random.default_rng(0)
        for place, (y, x) in enumerate(random.integers(0, SIDE - 5, (PICTURES, 2))):
            drawn = random.integers(0, 50, (SIDE, SIDE, 3), np.uint8)
            drawn[y : y + 5, x : x + 5, 0] = 255
            marked = place % 2 == 0
            if marked:
                drawn[-4:, -4:] = (0, 0, 255)
            Image.fromarray(drawn).save(folder / f"{place}.png")
            table.writerow((f"{place}.png", "red", "marked" if marked else "plain"))
    for name, weight in (("biased", 3.0), ("unbiased", 0.0)):
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "1" / "model.yaml").write_text(MODEL_YAML.format(weight))
        asked = ("--model", name, "--methods", "gradcam", "--protocols", "bias", "-o", folder / name)
        settings = {"model_repository": folder / "models", "python_path": folder / "code", "cpus": 1}
        done = gradcam("evaluate", folder / "data.csv", *asked, **settings)
        assert done.returncode == 0, done.stderr
    return {name: folder / name for name in ("biased", "unbiased")}


def test_a_planted_bias_is_named_and_drawn(looked_at: Mapping[str, Path]):
    notes = results(looked_at["biased"])["bias"]["notes"]
    assert any("in group 'marked' more of the map lies in row 3, column 3 of 3×3" in note for note in notes)
    assert (looked_at["biased"] / "bias-gradcam.svg").read_text().startswith("<svg")


def test_a_model_without_a_bias_is_not_accused_of_more_than_chance_allows(looked_at: Mapping[str, Path]):
    """Not of the mark, and of one in twenty divisions of the pictures that are made by lot."""
    assert results(looked_at["unbiased"])["bias"]["notes"] == []
    entries = [json.loads(line) for line in (looked_at["unbiased"] / "measured.jsonl").read_text().splitlines()]
    rows = [entry["rows"] for entry in entries if entry["protocol"] == "bias"]
    assert len(rows) == PICTURES
    accused = 0
    for seed in range(20):
        groups = np.random.default_rng(seed).permutation(["a", "b"] * (PICTURES // 2))
        of = [
            Of(str(place), str(group), "gradcam", own)
            for place, (group, own) in enumerate(zip(groups, rows, strict=True))
        ]
        accused += bool(PROTOCOLS["bias"].summarise(of, ["none", "red"], cells=3).notes)
    assert accused <= 1
