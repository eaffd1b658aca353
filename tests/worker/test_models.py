"""What becomes of models in the worker's table."""

import json
import logging
import threading
import time

import pytest
import torch
from registry.predictors import serving

from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.repository import scan
from gradcam_service.runtime import openvino
from gradcam_service.worker import models
from gradcam_service.worker.models import Models
from gradcam_service.worker.poller import Snapshot
from live import PATIENCE
from repository import EMBEDDED_KEYS, in_full
from traces import keep_traces


def test_the_reason_of_a_failure_is_one_line_whatever_is_raised(monkeypatch):
    def fail(*_):
        raise RuntimeError("no such layer\n  at line 1\n  at line 2")

    woken = threading.Event()
    monkeypatch.setattr(models, "load_form", fail)
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

    monkeypatch.setattr(models, "_give_back", give_back)
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
