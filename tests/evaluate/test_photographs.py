"""The photographs of docs/evaluation.md: where each comes from, and that its box fits it."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from gradcam_service.evaluate.datasets import Source, collect
from gradcam_service.evaluate.sample import fitting
from gradcam_service.registry.repository import EMBEDDED

DOCS = Path(__file__).parents[2] / "docs"
LABELS = (EMBEDDED / "imagenet" / "1" / "labels.txt").read_text("utf-8").splitlines()


def test_there_are_twenty_of_classes_that_imagenet_has_with_boxes_that_fit():
    collected = collect(Source(str(DOCS / "photographs.csv")), LABELS)
    assert collected.problems == []
    assert len(collected.samples) == 20
    for sample in collected.samples:
        picture = Image.open(io.BytesIO(sample.read()))
        assert fitting(sample, picture.size)[1] == []
        covered = sample.where(sample.labels[0], picture.size)
        assert covered is not None
        assert 0.02 < covered.mean() < 0.92


def test_each_tells_where_it_comes_from_and_is_small():
    told = (DOCS / "photographs" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(.+?)` \| .+ \| .+ \| .+ \| (CC0|CC BY [23]\.0|public domain) \|$", told, re.MULTILINE)
    files = {path.name: path.stat().st_size for path in (DOCS / "photographs").glob("*.jpg")}
    assert sorted(name for name, _ in rows) == sorted(files)
    assert max(files.values()) < 40_000
