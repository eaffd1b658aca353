"""Compiled forms that a service makes of what it has loaded, for its next start: `GRADCAM_COMPILE=auto`."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from api.calls import values
from compiled.test_compiled import answers, entry, inputs, near
from compiled.test_worker import holds_torch, picture
from gradcam_service.compiled.form import CompiledForm, key_of, make_form
from gradcam_service.compiled.keep import keep_form
from gradcam_service.errors import ModelFailed
from gradcam_service.question import Question
from gradcam_service.registry import apart, kept
from gradcam_service.registry import cache as cached
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loading import load, load_form
from live import PATIENCE, Service, running, until
from repository import in_full
from traces import keep_traces


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_full("scenes", tmp_path_factory.mktemp("models"))


def form_of(version: Path) -> CompiledForm | None:
    found = load_form(entry(version), "cpu", kept_too=True)
    assert found is None or isinstance(found, CompiledForm)
    return found


def explained(service: Service, method: str) -> np.ndarray:
    told = service.post("/explain", files={"image": picture()}, data={"output": "map", "method": method})
    assert told.status_code == 200, told.text
    return values(told.json()["results"][0]["explanations"][0]["map"])


def test_the_next_start_needs_no_torch_and_answers_alike(folder, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    keep_traces([folder.parents[1]])
    settings = {"model_repository": folder.parents[1], "embedded": False, "device": "cpu", "cpus": 2, "compile": "auto"}
    key = key_of(ModelFolder(entry(folder).spec(), folder))
    with running(**settings, timeout_ms=170_000) as service:
        expected, digest = explained(service, "layercam"), service.get("/models/scenes").json()["digest"]
        assert holds_torch(service)
        until(lambda: kept.holds("forms", key))
    with running(**settings, timeout_ms=170_000) as service:
        near(explained(service, "layercam"), expected)
        assert service.get("/models/scenes").json()["digest"] == digest
        assert not holds_torch(service)
        assert explained(service, "smoothgrad").any()
        assert holds_torch(service)


def test_one_that_can_not_be_opened_now_stays(folder, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    key = key_of(ModelFolder(entry(folder).spec(), folder))
    if not kept.holds("forms", key):
        keep_form(ModelFolder(entry(folder).spec(), folder), key)

    def too_many(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as now:
        now.setattr(onnxruntime, "InferenceSession", too_many)
        assert form_of(folder) is None
    assert form_of(folder) is not None


def test_one_that_is_damaged_costs_time_alone(folder, cache, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    key = key_of(ModelFolder(entry(folder).spec(), folder))
    if not kept.holds("forms", key):
        keep_form(ModelFolder(entry(folder).spec(), folder), key)
    model, form = load(entry(folder), "cpu"), form_of(folder)
    given, asked = [inputs(model)], [Question("gradcam")]
    near(answers(form, given, asked)[0].maps, answers(model, given, asked)[0].maps)
    file = form.folder / "compiled.json"
    file.write_bytes(file.read_bytes().replace(b'"outputs": 12', b'"outputs": 13'))
    with caplog.at_level(logging.WARNING):
        assert form_of(folder) is None
    assert any("is made again: it is damaged" in record.getMessage() for record in caplog.records)
    assert not kept.holds("forms", key)


def test_what_has_another_digest_has_another_form_and_what_is_only_served_otherwise_the_same(folder):
    spec = entry(folder).spec()

    def key(**changed: object) -> str:
        return key_of(ModelFolder(spec.model_copy(update=changed), folder))

    assert key(description="mine", runtime="openvino", precision="bfloat16") == key()
    assert key(batch=4) != key() != key(layer="layer2")


def test_one_that_can_not_be_compiled_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    version = in_full("scenes", tmp_path)
    with (version / "model.yaml").open("a") as file:
        file.write("method: smoothgrad\n")
    folder = ModelFolder(entry(version).spec(), version)
    keep_form(folder, key_of(folder))
    monkeypatch.delattr(apart, "run")  # what would compile it
    make_form(entry(version), Surroundings())
    assert form_of(version) is None
    make_form(entry(version), Surroundings())


def test_one_that_fails_again_and_again_is_not_tried_for_ever(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    version, tried = in_full("scenes", tmp_path), []

    def run(*task: object) -> None:
        tried.append(task[0])
        raise ModelFailed("the process that compiles the model was killed")

    monkeypatch.setattr(apart, "run", run)
    for _ in range(5):
        make_form(entry(version), Surroundings())
    assert tried == ["compile"] * 3
    assert sum("is not compiled" in record.getMessage() for record in caplog.records) == 3


def test_a_compilation_keeps_no_export_waiting_and_waits_for_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    version, asked, exported = in_full("scenes", tmp_path), threading.Event(), threading.Event()
    order = []

    def export() -> None:
        with cached.alone("export"):
            order.append("export")
        exported.set()

    def run(*_: object) -> None:
        order.append("compile")
        threading.Thread(target=export, daemon=True).start()
        assert exported.wait(PATIENCE)

    def compile_() -> None:
        asked.set()
        make_form(entry(version), Surroundings())

    monkeypatch.setattr(apart, "run", run)
    with cached.alone("export"):
        compiling = threading.Thread(target=compile_)
        compiling.start()
        assert asked.wait(PATIENCE)
        order.append("the first export")
    compiling.join(PATIENCE)
    assert order == ["the first export", "compile", "export"]
