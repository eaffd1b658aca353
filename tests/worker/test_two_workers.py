"""Two workers on one machine: a real service on `cpu,cpu`, with models that say which worker computed.

The scores of ``teller`` are its worker's number, one minus that, and its worker's threads; ``picky`` can't be loaded by
the second worker.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
import torch

from exposed import value
from gradcam_service.settings import Settings
from live import Service, repeated, running_eagerly, until

from . import faulty

CODE = """
import multiprocessing
import sys

import torch
from torch import nn

number = int(multiprocessing.current_process().name.rpartition(":")[2])


class Teller(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, stride=4)
        self.threads = torch.get_num_threads()

    def forward(self, images):
        scores = torch.relu(self.convolution(images)).mean((2, 3))
        return scores * 0.0 + scores.new_tensor([number, 1 - number, self.threads])


def quits():
    sys.exit(3)


def picky():
    if number == 1:
        raise RuntimeError("not on this device")
    return Teller()
"""
THREADS = torch.get_num_threads()
"""As torch finds them; the tests leave theirs but one."""
YAML = """\
source: python
architecture: {architecture}
weights: random:1
preprocess: {{resize: 32, crop: 32, mean: [0, 0, 0], std: [1, 1, 1]}}
runtime: eager
load: {load}
"""
MODELS = {
    "a-quitter": ("telling:quits", "start"),
    "teller": ("telling:Teller", "start"),
    "picky": ("telling:picky", "start"),
    "late": ("telling:picky", "demand"),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "telling.py").write_text(CODE)
    for name, (architecture, load) in MODELS.items():
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        (version / "model.yaml").write_text(YAML.format(architecture=architecture, load=load))
    settings = {"model_repository": folder / "models", "python_path": folder, "default_model": "teller"}
    with running_eagerly(device="cpu,cpu", timeout_ms=120_000, **settings) as service:
        until(lambda: len(devices_of(service, "teller")), 2)  # one may be ready before the other
        yield service


def devices_of(service: Service, model: str) -> list[str]:
    found: list[str] = service.client.get(f"/models/{model}").json().get("device", [])
    return found


def scores(service: Service, model: str = "teller") -> dict[int, float]:
    answer = service.post("/predict", files={"image": faulty.picture(0)}, params={"model": model})
    assert answer.status_code == 200, answer.text
    return {found["index"]: found["logit"] for found in answer.json()["results"][0]["predictions"]}


def test_each_has_a_name_and_half_of_what_there_is(two: Service):
    assert two.client.get("/healthz").json()["devices"] == {"cpu:0": "up", "cpu:1": "up"}
    assert devices_of(two, "teller") == ["cpu:0", "cpu:1"]
    for name in ("cpu:0", "cpu:1"):
        assert len(two.pids(f"worker {name}")) == 1
        assert value(two.client, "gradcam_worker_up", device=name) == 1
        assert value(two.client, "gradcam_device_memory_total_bytes", device=name) <= psutil.virtual_memory().total / 2
    assert scores(two)[2] == max(1, min(THREADS, Settings().threads) // 2)


def test_scipy_costs_nobody_anything_who_asks_for_nothing_of_it(two: Service):
    scores(two)
    maps = {process.pid: process.memory_maps() for process in two.lasting()}
    assert [pid for pid, files in maps.items() if any("/scipy/" in file.path for file in files)] == []


def test_load_is_spread(two: Service):
    answers = Counter(scores(two)[0] for _ in range(8))
    assert answers == {0: 4, 1: 4}


def test_a_model_that_fails_on_one_answers_from_the_other(two: Service):
    for model in ("picky", "late"):  # loaded at the start, and on demand
        assert [scores(two, model)[0] for _ in range(3)] == [0, 0, 0]
        assert devices_of(two, model) == ["cpu:0"]
        assert two.client.get(f"/models/{model}").json()["state"] == "ready"


def test_a_model_whose_code_exits_fails_and_those_after_it_are_loaded(two: Service):
    quitter = two.client.get("/models/a-quitter").json()
    reason = "telling:quits with no options raised SystemExit: 3; it must return a torch.nn.Module"
    assert (quitter["state"], quitter["reason"]) == ("failed", reason)
    assert len(devices_of(two, "teller")) == 2


def test_one_killed_under_load_costs_no_request(two: Service):
    answers = Counter[float]()

    def ask(_: int) -> None:
        answers[scores(two)[0]] += 1

    def health() -> dict[str, str]:
        found: dict[str, str] = two.client.get("/healthz").json()["devices"]
        return found

    with repeated(ask, 4, pause=0.05):
        until(lambda: len(answers), 2)
        os.kill(two.pids("worker cpu:0")[-1], signal.SIGKILL)
        until(health, {"cpu:0": "down", "cpu:1": "up"})
        assert two.client.get("/readyz").status_code == 200
        before = answers[1]
        until(lambda: answers[1] > before + 8)  # meanwhile the other one answers
    until(health, {"cpu:0": "up", "cpu:1": "up"})
    until(lambda: "cpu:0" in devices_of(two, "teller"))
    assert {scores(two)[0] for _ in range(4)} == {0, 1}
    assert value(two.client, "gradcam_worker_restarts_total", device="cpu:0", reason="SIGKILL") == 1
    until(lambda: value(two.client, "gradcam_in_flight"), 0)
