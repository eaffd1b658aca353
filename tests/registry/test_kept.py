"""What is kept of a model is found by all that decides it, checked before use, and costs only time where it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradcam_service import kinds
from gradcam_service.registry import kept, traces
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import parse_spec, scan

FILES = {"graph.json": b"[]" * 50, "tensors": bytes(range(256))}
DAMAGES = {
    "a flipped bit": lambda path: (path / "tensors").write_bytes(bytes([1, *range(1, 256)])),
    "cut short": lambda path: (path / "tensors").write_bytes(bytes(range(100))),
    "a file that is gone": lambda path: (path / "graph.json").unlink(),
    "digests that are none": lambda path: (path / "sha256.json").write_bytes(b"\x80garbage"),
    "digests of another kind": lambda path: (path / "sha256.json").write_text("3"),
    "no digests": lambda path: (path / "sha256.json").unlink(),
    "no files": lambda path: (path / "sha256.json").write_text("{}"),
}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gradcam"


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_not_used_but_made_again(cache, caplog, damage):
    assert kept.find("traces", "key") is None
    kept.keep("traces", "key", FILES)
    assert kept.find("traces", "key") == FILES
    damage(cache / "traces" / "key")
    assert kept.find("traces", "key") is None
    (record,) = caplog.records
    assert str(cache / "traces" / "key") in record.message
    assert "codec" not in record.message
    kept.keep("traces", "key", FILES)
    assert kept.find("traces", "key") == FILES


def test_a_disk_that_takes_nothing_is_lived_with_and_named(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not kept.keep("traces", "key", FILES)
    assert kept.find("traces", "key") is None
    assert "nothing is kept" in caplog.text
    assert str(tmp_path / "file") in caplog.text


def written(root: Path, source: str = "zoo", files: dict[str, str] | None = None) -> ModelFolder:
    root.mkdir(exist_ok=True)
    for name, text in (files or {"labels.txt": "a\nb"}).items():
        (root / name).write_text(text)
    return ModelFolder(parse_spec(f"source: {source}\narchitecture: x:y\nweights: random:0", "model.yaml"), root)


def test_the_key_is_of_the_description_and_of_what_lies_beside_it_wherever_that_is(tmp_path):
    one = kept.key_of(written(tmp_path / "one"))
    assert one == kept.key_of(written(tmp_path / "other"))
    others = (
        written(tmp_path / "timm", "timm"),
        written(tmp_path / "content", files={"labels.txt": "a\nc"}),
        written(tmp_path / "name", files={"label.txt": "a\nb"}),
        written(tmp_path / "more", files={"labels.txt": "a\nb", "config.json": "{}"}),
    )
    assert len({one, *map(kept.key_of, others)}) == 5


def test_how_a_model_is_served_needs_no_other_trace_and_what_it_computes_does(tmp_path):
    (tmp_path / "a.png").touch()

    def key(more: str) -> str | None:
        text = f"source: zoo\narchitecture: scenes\nweights: random:0\n{more}"
        return kept.key_of(ModelFolder(parse_spec(text, "model.yaml"), tmp_path))

    serving = "runtime: eager\nprecision: auto\nbatch: 4\nload: demand\nmethod: rise\ndescription: a\n"
    assert key(serving + "sample: {image: a.png, label: 0}") == key("")
    others = ("layer: layer1", "activation: sigmoid", "input: {channels: bgr}", "labels: [a]", "task: regression")
    assert len({key(""), *map(key, others)}) == 6


def test_what_an_operators_code_builds_is_not_kept(tmp_path):
    assert kept.key_of(written(tmp_path / "own", "python")) is None


PLUGIN = """
import torch
from torch import nn

from gradcam_service.registry.built import Built
from gradcam_service.registry.sources import Source


def build(folder):
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    nn.init.constant_(module[0].weight, WEIGHT)
    return Built(module, ["a", "b"], folder.preprocess())


SOURCE = Source(build, architecture=False, weights=False, reproducible=True)
"""


def test_what_a_plugin_built_is_not_kept_for_another_plugin_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "_PLUGINS", {constant: {} for constant in kinds.CONSTANTS})
    monkeypatch.setattr(kinds, "_CODE", {})
    (tmp_path / "model").mkdir()
    answers, keys = [], []
    for weight in ("1.0", "2.0"):
        plugins = tmp_path / weight
        plugins.mkdir()
        (plugins / "toy.py").write_text(PLUGIN.replace("WEIGHT", weight))
        kinds.load_plugins(plugins)
        text = "source: toy\npreprocess: {resize: 32, crop: 32, mean: [0, 0, 0], std: [1, 1, 1]}"
        folder = ModelFolder(parse_spec(text, "model.yaml"), tmp_path / "model")
        keys.append(kept.key_of(folder))
        answers.append(traces.traced(folder).graph(torch.ones(1, 3, 32, 32)))
    assert None not in keys
    assert (answers[0] - answers[1]).abs().max() > 1
    (plugins / "_helper.py").touch()
    kinds.load_plugins(plugins)
    assert kept.key_of(folder) not in keys  # a helper decides as well


@pytest.mark.parametrize("content", [{"known.json": b"{}", "graph.json": b"{}"}, {"graph.json": b"{}"}])
def test_a_trace_that_is_whole_but_says_nothing_is_made_again(cache, monkeypatch, caplog, content):
    folder = ModelFolder(*_scenes())
    key = kept.key_of(folder)
    kept.keep("traces", key, content)
    made = traces.trace_of(folder)
    assert traces.traced(folder).known == made.known
    assert "made again" in caplog.text
    monkeypatch.setattr(traces, "trace_of", None)  # it was kept instead
    assert traces.traced(folder).known == made.known


def test_a_model_from_the_cache_is_the_same_in_all_and_answers_bit_for_bit(cache, monkeypatch):
    entry = next(entry for entry in scan(()) if entry.name == "scenes")
    traced = load(entry, torch.device("cpu"))
    monkeypatch.setattr(traces, "trace_of", None)  # it is not traced again
    again = load(entry, torch.device("cpu"))
    assert again.card == traced.card
    images = torch.randn(3, 3, *traced.card.preprocess.input_size)
    for one, other in zip(traced.network.predict(images), again.network.predict(images), strict=True):
        assert torch.equal(getattr(one, "features", one), getattr(other, "features", other))


def test_a_model_whose_files_change_while_it_is_traced_is_not_kept(cache, tmp_path, monkeypatch):
    folder = written(tmp_path / "model")

    def change(of: ModelFolder) -> traces.Trace:
        (of.path / "labels.txt").write_text("a\nc")
        return made

    made = traces.trace_of(ModelFolder(*_scenes()))
    monkeypatch.setattr(traces, "trace_of", change)
    assert traces.traced(folder) is made
    assert not (cache / "traces").exists()


def _scenes():
    entry = next(entry for entry in scan(()) if entry.name == "scenes")
    return entry.spec(), entry.folder()
