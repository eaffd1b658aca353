"""What becomes of models in the worker's table."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from registry.predictors import serving

from gradcam_service.compiled.race import Race
from gradcam_service.errors import NeedsFullModel
from gradcam_service.question import Question
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.loading import load, load_form
from gradcam_service.registry.repository import EMBEDDED, scan
from gradcam_service.registry.served import ServedModel
from gradcam_service.runtime import openvino
from gradcam_service.worker import loader
from gradcam_service.worker.loader import Loader
from gradcam_service.worker.models import Models
from gradcam_service.worker.poller import Snapshot
from live import PATIENCE
from repository import EMBEDDED_KEYS, in_full
from traces import keep_traces


def test_the_reason_of_a_failure_is_one_line_whatever_is_raised(monkeypatch):
    def fail(*_):
        raise RuntimeError("no such layer\n  at line 1\n  at line 2")

    woken = threading.Event()
    monkeypatch.setattr(loader, "load_form", fail)
    table = Models(torch.device("cpu"), 0, None, woken.set)
    table.apply(Snapshot(scan(()), frozenset(EMBEDDED_KEYS - {"scenes@1"})))
    assert woken.wait(PATIENCE)
    table.collect()
    model = next(model for model in table.status() if model.name == "scenes")
    assert (model.state, model.reason) == ("failed", "RuntimeError: no such layer")


@pytest.mark.parametrize("precision", ["float32", "auto", "bfloat16"])
def test_it_is_told_once_that_a_precision_has_no_effect(caplog, precision):
    woken = threading.Event()
    with caplog.at_level(logging.WARNING):
        table = Models(torch.device("cpu"), 0, None, woken.set, precision=precision)
        table.apply(Snapshot(scan((), embedded=False), frozenset()))
        assert woken.wait(PATIENCE)  # the start has ended, without a model
    told = [record.fields for record in caplog.records if "has no effect" in record.getMessage()]
    in_vain = precision == "bfloat16" and not openvino.has_bfloat16()
    assert told == [{"setting": "GRADCAM_PRECISION", "precision": "bfloat16", "device": "cpu"}] * in_vain


def test_the_start_ends_when_what_it_left_behind_has_been_given_back(monkeypatch, tmp_path):
    woken, while_giving_back = threading.Event(), []
    table = Models(torch.device("cpu"), 0, None, woken.set)

    def give_back(device):
        time.sleep(0.1)
        while_giving_back.append(table.started)

    monkeypatch.setattr(loader, "_give_back", give_back)
    in_full("scenes", tmp_path)
    table.apply(Snapshot(scan((tmp_path,), embedded=False)))
    runtimes = set()
    while not table.started:
        assert woken.wait(PATIENCE)
        woken.clear()
        table.collect()
        runtimes |= {model.card.runtime for model in table.status() if model.card}
    assert runtimes in ({"eager", "onnxruntime"}, {"eager", "openvino"})  # whichever is faster here
    assert while_giving_back == [False]  # of the model as it was on eager PyTorch


def test_the_start_waits_for_a_runtime_but_not_for_an_export(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with (in_full("scenes", tmp_path / "models") / "model.yaml").open("a") as file:
        file.write("runtime: onnxruntime\n")
    keep_traces([tmp_path / "models"])
    snapshot = Snapshot(scan((tmp_path / "models",), embedded=False))

    def started() -> tuple[Models, threading.Event]:
        woken = threading.Event()
        table = Models(torch.device("cpu"), 0, None, woken.set, surroundings=Surroundings(log_level="warning"))
        table.apply(snapshot)
        while not table.started:
            assert woken.wait(PATIENCE)
            woken.clear()
            table.collect()
        return table, woken

    def runtime(table: Models) -> str:
        return table.status()[0].card.runtime

    first, woken = started()
    assert runtime(first) == "eager"
    while runtime(first) == "eager":
        assert woken.wait(PATIENCE)
        woken.clear()
        first.collect()
    assert runtime(started()[0]) == "onnxruntime"


def test_nobody_waits_for_a_predictor_whose_model_is_not_wanted_any_more(tmp_path):
    (tmp_path / "late" / "1").mkdir(parents=True)
    woken = threading.Event()
    with serving(lambda path, body: (503, {})) as url:
        options = {"url": f"http://{url}", "model": "late"}
        spec = {"source": "predictor", "activation": "none", "options": options, "load": "demand"}
        (tmp_path / "late" / "1" / "model.yaml").write_text(json.dumps(spec))
        table = Models("cpu", 0, None, woken.set)
        table.apply(Snapshot(scan((tmp_path,), embedded=False), frozenset({"late@1"})))
        assert table.load("late@1", again=False)
        while "it waits for the predictor" not in table.status()[0].reason:
            assert woken.wait(PATIENCE)
            woken.clear()
            table.collect()
        (waiting,) = (thread for thread in threading.enumerate() if thread.name == "prepare")
        table.unload("late@1")
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
    assert table.status()[0].state == "unloaded"


def forms(folder: Path, **changes: object) -> tuple[Models, threading.Event]:
    """A worker's models, in its thread's place, of which `scenes` comes with its compiled form."""
    woken = threading.Event()
    table = Models("cpu", 0, None, woken.set, **changes)
    table.apply(Snapshot(scan((folder,), embedded=False)))
    return table, woken


def collected(table: Models, woken: threading.Event, done: Callable[[], bool]) -> None:
    """Take what is loaded until something is so."""
    while not done():
        assert woken.wait(PATIENCE)
        woken.clear()
        table.collect()


@pytest.fixture
def scenes(tmp_path):
    """A repository of `scenes` with its compiled form."""
    shutil.copytree(EMBEDDED / "scenes" / "1", tmp_path / "models" / "scenes" / "1")
    return tmp_path / "models"


IN_TORCH = Question("smoothgrad")


def found(table: Models, question: Question | None) -> ServedModel:
    return table.find("scenes@1", table.status()[0].card.digest, question)


def test_the_full_model_is_loaded_beside_its_form_for_what_that_can_not_do(scenes):
    table, woken = forms(scenes)
    collected(table, woken, lambda: table.started)
    form = found(table, None)
    with pytest.raises(NeedsFullModel):
        found(table, IN_TORCH)
    assert table.load("scenes@1", again=False, whole=True)
    collected(table, woken, lambda: not table.is_loading("scenes@1"))
    assert found(table, Question("gradcam")) is form
    full = found(table, IN_TORCH)
    assert isinstance(full, LoadedModel)
    assert table.status()[0].card.memory == form.card.memory + full.card.memory
    assert not table.load("scenes@1", again=False, whole=True)


def test_a_full_model_that_comes_when_its_form_is_unloaded_is_let_go_of(scenes, monkeypatch):
    asked, unloaded = threading.Event(), threading.Event()

    def late(*arguments):
        asked.set()
        assert unloaded.wait(PATIENCE)
        return load(*arguments)

    monkeypatch.setattr(loader, "load", late)
    table, woken = forms(scenes)
    collected(table, woken, lambda: table.started)
    table.load("scenes@1", again=False, whole=True)
    assert asked.wait(PATIENCE)
    table.unload("scenes@1")
    assert not table.is_loading("scenes@1")
    unloaded.set()
    assert table.load("scenes@1", again=False)
    collected(table, woken, lambda: not table.is_loading("scenes@1"))
    with pytest.raises(NeedsFullModel):
        found(table, IN_TORCH)


def test_what_can_not_be_made_faster_now_answers_and_others_are_loaded(scenes, monkeypatch, caplog):
    def gone(race):
        raise FileNotFoundError("its folder has gone")

    monkeypatch.setattr(Race, "is_ready", gone)
    with caplog.at_level(logging.INFO):
        table, woken = forms(scenes, surroundings=Surroundings(log_level="warning"))
        collected(table, woken, lambda: table.started)
    assert any(
        record.fields["reason"].endswith("its folder has gone")
        for record in caplog.records
        if record.getMessage().startswith("model stays on")
    )
    table.load("scenes@1", again=False, whole=True)
    collected(table, woken, lambda: not table.is_loading("scenes@1"))
    assert isinstance(found(table, IN_TORCH), LoadedModel)


def test_what_fails_in_the_loading_thread_keeps_no_other_from_being_loaded(scenes, monkeypatch):
    monkeypatch.setattr(Loader, "_accelerate", lambda *_: 1 / 0)
    table, woken = forms(scenes)
    collected(table, woken, lambda: table.status()[0].state == "ready")
    table.load("scenes@1", again=False, whole=True)
    collected(table, woken, lambda: not table.is_loading("scenes@1"))
    assert isinstance(found(table, IN_TORCH), LoadedModel)


def test_forms_are_opened_one_at_a_time(scenes, monkeypatch):
    at_once, most = [], []

    def watched(*arguments):
        at_once.append(0)
        time.sleep(0.05)
        most.append(len(at_once))
        try:
            return load_form(*arguments)
        finally:
            at_once.pop()

    monkeypatch.setattr(loader, "load_form", watched)
    for name in "abc":
        shutil.copytree(scenes / "scenes", scenes / name)
    table, woken = forms(scenes)
    collected(table, woken, lambda: table.started)
    assert most == [1] * 4
