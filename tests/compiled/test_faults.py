"""Compiled models that aren't as they were written, and runtimes that don't compute what they should."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from compiled.test_compiled import altered, answers, both, entry, inputs, near, source
from gradcam_service import kinds
from gradcam_service.compiled.model import CompiledModel
from gradcam_service.compiled.write import compile_model
from gradcam_service.errors import ModelFailed, UnsupportedMethod
from gradcam_service.question import Question
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loading import load


def layer(**members: object) -> dict[str, object]:
    return {"layers": [json.loads((both("scenes")[1].folder / "compiled.json").read_bytes())["layers"][0] | members]}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda: {"layers": []}, "compiled.json is not what gradcam compile writes"),
        (lambda: {"positions": 0}, "compiled.json is not what gradcam compile writes"),
        (lambda: {"outputs": 24, "positions": 2}, "can't answer: it gives"),
        (lambda: layer(backbone="../../other.onnx"), "compiled.json has no digest of ../../other.onnx"),
        (lambda: layer(head="backbone.onnx"), "the compiled model can't answer"),
        (lambda: {"files": {"../model.yaml": "0"}}, "leads out of"),
    ],
)
def test_a_manifest_that_is_not_as_it_was_written_is_told_of(damage, told, tmp_path):
    file = altered(tmp_path, "scenes") / "compiled.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | damage()))
    with pytest.raises(ModelFailed, match=told):
        load(entry(file.parent), "cpu")


def test_a_pipe_in_its_place_is_not_read(tmp_path):
    file = altered(tmp_path, "scenes") / "compiled.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ModelFailed, match=r"compiled\.json is no file"):
        load(entry(file.parent), "cpu")


def test_a_size_that_it_was_not_compiled_for_is_told_of_before_anybody_asks(tmp_path):
    file = altered(tmp_path, "scenes") / "model.yaml"
    content = yaml.safe_load(file.read_text())
    content["preprocess"]["pad"] = 64
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ModelFailed, match=r"can't answer: .*must be what it said when the model was compiled"):
        load(entry(file.parent), "cpu")


def test_files_that_are_cut_short_under_a_loaded_model_change_nothing(tmp_path):
    folder = altered(tmp_path, "scenes")
    compiled = load(entry(folder), "cpu")
    given, asked = [inputs(both("scenes")[0])], [Question("gradcam")]
    before = answers(compiled, given, asked)[0].maps
    for file in folder.iterdir():
        os.truncate(file, 0)  # as cp and rsync --inplace begin
    near(answers(compiled, given, asked)[0].maps, before)


TINY = """\
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
"""


def test_a_model_whose_tensors_are_all_small_is_compiled_too(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "reviewed.py").write_text(TINY)
    full = tmp_path / "tiny" / "1"
    full.mkdir(parents=True)
    preprocess = "preprocess: {resize: [24, 24], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"
    (full / "model.yaml").write_text(f"source: python\narchitecture: reviewed:tiny\nlabels: [a, b, c]\n{preprocess}\n")
    model = load(entry(full), "cpu", tmp_path / "code")
    folder = tmp_path / "tiny" / "2"
    compile_model(model, ModelFolder(model.spec, full, tmp_path / "code"), "tiny@1", (), folder)
    compiled = load(entry(folder), "cpu")
    given, asked = [inputs(model)], [Question("gradcam")]
    near(answers(compiled, given, asked)[0].maps, answers(model, given, asked)[0].maps)


def test_a_method_by_default_that_it_would_not_have_is_told_of(tmp_path):
    model = both("scenes")[0]
    model = replace(model, card=msgspec.structs.replace(model.card, method="smoothgrad"))
    with pytest.raises(UnsupportedMethod, match=r"smoothgrad where a request names no method.*another method in its"):
        compile_model(model, ModelFolder(model.spec, source("scenes")), "scenes@1", (), tmp_path / "a" / "1")
    assert not (tmp_path / "a").exists()


BENT = """\
from gradcam_service.runtime import Runtime
from gradcam_service.runtime.onnxruntime import RUNTIME as REAL

def _open(model, precision, folder=None):
    graph = REAL.open(model, precision, folder)
    return (lambda *given: [values[:, ::-1] for values in graph(*given)]) if "{bent}" in model.name else graph

RUNTIME = Runtime(REAL.build, devices=("cpu",), open=_open)
"""


@pytest.mark.parametrize(
    ("bent", "told"),
    [("head", r"bent computes features or scores that differ"), ("gradient", r"bent is not accepted: .*cosine")],
)
def test_a_runtime_that_computes_another_head_or_gradient_takes_nothing_over(bent, told, tmp_path, monkeypatch):
    plugin = tmp_path / "bent.py"
    plugin.write_text(BENT.format(bent=bent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # or what was found of another file is known
    monkeypatch.setitem(kinds._PLUGINS["RUNTIME"], "bent", plugin)
    model = both("squeezenet1_1")[1]
    model = replace(model, spec=model.spec.model_copy(update={"runtime": "bent"}))
    faster = model.accelerated("float32", 0)
    assert isinstance(faster, str)
    assert re.search(told, faster), faster


SLOW = """\
import time
from gradcam_service.runtime import Runtime
from gradcam_service.runtime.onnxruntime import RUNTIME as REAL

def _open(model, precision, folder=None):
    graph = REAL.open(model, precision, folder)
    return graph if precision == "float32" else lambda *given: time.sleep(0.1) or graph(*given)

RUNTIME = Runtime(REAL.build, devices=("cpu",), precisions=("float32", "bfloat16"), open=_open)
"""


def test_precision_auto_takes_no_slower_one_of_a_runtime_by_name(tmp_path, monkeypatch):
    plugin = tmp_path / "slow.py"
    plugin.write_text(SLOW)
    monkeypatch.setitem(kinds._PLUGINS["RUNTIME"], "slow", plugin)
    model = both("scenes")[1]
    spec = model.spec.model_copy(update={"runtime": "slow"})
    model = replace(model, spec=spec, card=model.card.on_runtime("slow", "float32", 0))
    assert re.search("slow in bfloat16 takes .* of the time of slow", str(model.accelerated("auto", 0)))
    faster = model.accelerated("bfloat16", 0)
    assert isinstance(faster, CompiledModel)
    assert faster.card.precision == "bfloat16"


def test_what_it_keeps_on_the_disk_stays_within_the_bound(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def old() -> Path:
        """Something that nobody holds."""
        item = tmp_path / "gradcam" / "models" / "old"
        item.mkdir(parents=True, exist_ok=True)
        (item / "weights").write_bytes(bytes(100))
        return item

    item = old()
    compiled = load(entry(both("scenes")[1].folder), "cpu", cache_bytes=50)
    assert isinstance(compiled, CompiledModel)
    assert not item.exists()
    item = old()
    compiled.accelerated("float32", 50)
    assert not item.exists()
