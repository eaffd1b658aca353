"""A model that a process of its own has traced is the one traced here, and what ends that process fails it alone."""

from __future__ import annotations

import fcntl
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from registry.predictors import serving
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.registry import apart, kept, traces
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import Entry, parse_spec, scan
from gradcam_service.registry.weights import NotFetched
from gradcam_service.runtime.onnxruntime import open_session
from live import closed_port

SURROUNDINGS = Surroundings(log_level="warning")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def resnet(folder: Path) -> ModelFolder:
    text = "source: torchvision\narchitecture: resnet18\nweights: random:0"
    return ModelFolder(parse_spec(text, "model.yaml"), folder)


def embedded(name: str) -> Entry:
    """An embedded model; `policy` is traced and exported soonest."""
    return next(entry for entry in scan(()) if entry.name == name)


def test_it_is_the_one_traced_here_and_comes_with_its_backbone(monkeypatch, tmp_path):
    entry = embedded("policy")
    here = load(entry, torch.device("cpu"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with monkeypatch.context() as patched:
        patched.setattr(traces, "trace_of", None)  # not in this process
        apart = load(entry, torch.device("cpu"), surroundings=SURROUNDINGS)
    assert apart.card == here.card
    images = torch.randn(2, 3, *here.card.preprocess.input_size)
    assert torch.equal(apart.network.scores(images), here.network.scores(images))
    assert not apart.exporter.is_ready()
    (features,) = open_session(apart.exporter()).run(None, {"images": images.numpy()})
    assert_close(torch.from_numpy(features), here.network.backbone(images), rtol=1e-4, atol=1e-4)
    assert load(entry, torch.device("cpu"), surroundings=SURROUNDINGS).exporter.is_ready()  # kept from now on


def test_what_is_wrong_with_a_model_is_said_as_if_it_were_traced_here(tmp_path):
    folder = ModelFolder(parse_spec("source: zoo\narchitecture: seas\nweights: random:0", "model.yaml"), tmp_path)
    with pytest.raises(ModelFailed) as here:
        traces.traced(folder)
    with pytest.raises(ModelFailed) as apart:
        traces.traced(folder, SURROUNDINGS)
    assert apart.value.detail == here.value.detail


def test_weights_that_can_not_be_fetched_start_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "run", None)
    with closed_port() as nobody:
        where = f"http://127.0.0.1:{nobody.getsockname()[1]}/w.pth"
        with pytest.raises(ModelFailed, match=f"weights can't be fetched from {where}"):
            traces.traced(of_url(tmp_path, where), SURROUNDINGS)


def of_url(folder: Path, url: str) -> ModelFolder:
    text = f"source: torchvision\narchitecture: resnet18\nweights: {url}\nsha256: {'a' * 64}"
    return ModelFolder(parse_spec(text, "model.yaml"), folder)


def test_others_may_be_traced_while_weights_are_fetched(tmp_path, monkeypatch):
    asked = []

    def respond(path, body):
        with (tmp_path / "cache" / "gradcam" / "trace.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which raises where somebody holds it
        asked.append(path)
        return 404, {}

    def needs(task, folder, key, surroundings):
        raise NotFetched(f"http://{address}/published.pth", "a" * 64)

    (tmp_path / "cache" / "gradcam").mkdir(parents=True)
    with serving(respond) as address:
        with pytest.raises(ModelFailed, match=r"w\.pth: Not Found"):
            traces.traced(of_url(tmp_path, f"http://{address}/w.pth"), SURROUNDINGS)
        monkeypatch.setattr(apart, "run", needs)
        with pytest.raises(ModelFailed, match=r"published\.pth: Not Found"):
            traces.traced(resnet(tmp_path), SURROUNDINGS)
    assert asked == ["/w.pth", "/published.pth"]


@pytest.mark.exhaustive
def test_the_process_says_which_weights_it_lacks(tmp_path):
    with closed_port() as nobody:
        where = f"http://127.0.0.1:{nobody.getsockname()[1]}/w.pth"
        with pytest.raises(NotFetched, match=f"weights have yet to be fetched from {where}") as caught:
            apart.run("trace", of_url(tmp_path, where), "key", SURROUNDINGS)
    assert (caught.value.url, caught.value.digest) == (where, "a" * 64)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), 9)", "the process that traces the model was killed; there may not have been enough mem"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 3)", r"the process that traces the model died \(SIGRTMIN\+3\)"),
        ("os._exit(3)", r"the process that traces the model died \(exit 3\)"),
        ("raise MemoryError", "/ending.py can't be imported: MemoryError"),
        ("sys.exit('no licence')", "the model can't be traced: SystemExit: no licence"),
    ],
)
def test_what_ends_the_process_fails_its_load_and_is_said(tmp_path, end, said):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "ending.py").write_text(f"import os, signal, sys\n{end}\nDIALECT = None")
    with pytest.raises(ModelFailed, match=said):
        traces.traced(resnet(tmp_path), Surroundings(tmp_path / "plugins"))


SEMAPHORES = """
from multiprocessing.synchronize import SemLock

def refuse(*_, **__):
    raise AssertionError("a semaphore, which outlives who is killed")

SemLock.__init__ = refuse
DIALECT = None
"""


def test_nothing_of_the_process_outlives_it(tmp_path):
    (tmp_path / "semaphores.py").write_text(SEMAPHORES)
    entry = embedded("policy")
    traces.traced(ModelFolder(entry.spec(), entry.folder()), Surroundings(tmp_path))


@pytest.mark.exhaustive
def test_a_captioners_backbone_is_exported_as_one_of_pictures_alone():
    entry = next(entry for entry in scan(()) if entry.name == "scenes-captions")
    folder = ModelFolder(entry.spec(), entry.folder())
    model = load(entry, torch.device("cpu"))
    session = open_session(traces._exported(folder.spec, traces.trace_of(folder))["backbone.onnx"])
    images = torch.randn(3, 3, *model.card.preprocess.input_size)
    (features,) = session.run(None, {"images": images.numpy()})
    expected, _ = model.network.predict(images, torch.from_numpy(model.card.text.example()).repeat(3, 1))
    assert_close(torch.from_numpy(features), expected.features, rtol=1e-4, atol=1e-4)


def test_models_are_exported_one_at_a_time(tmp_path, monkeypatch):
    running, most = [], []

    def run(*_: object) -> None:
        running.append(None)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    monkeypatch.setattr(apart, "run", run)
    exporters = [traces.Exporter(resnet(tmp_path), f"key{number}", SURROUNDINGS) for number in range(4)]
    threads = [threading.Thread(target=exporter.export) for exporter in exporters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_the_export_of_other_files_than_the_keys_is_not_kept(tmp_path, monkeypatch):
    entry = embedded("scenes")
    folder = ModelFolder(entry.spec(), Path(shutil.copytree(entry.folder(), tmp_path / "model")))
    monkeypatch.setattr(traces, "_exported", lambda *_: {"backbone.onnx": b"of what is there now"})
    key = kept.key_of(folder)
    (folder.path / "note.txt").write_text("a change")
    changed = kept.key_of(folder)
    for of in (key, changed):
        traces.keep_export(folder, of)
    assert not kept.holds("exports", key)
    assert kept.holds("exports", changed)
