"""A predictor that does not answer holds its callers no longer than they wait, and others for one call at most."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from registry.predictors import SIZE, Answer, serving, v1

from api.calls import encoded
from live import PATIENCE, Service, running_eagerly

PHOTO = encoded(Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)), "PNG")


class Hanging:
    """The model of V1 that stops answering pictures while it is held."""

    def __init__(self) -> None:
        self.asked, self.free, self.calls = Event(), Event(), 0
        self.free.set()
        self._sound = v1("little", "png")

    def __call__(self, path: str, body: dict[str, object]) -> Answer:
        if body:
            self.calls += 1
            self.asked.set()
            assert self.free.wait(PATIENCE)
        return self._sound(path, body)


@pytest.fixture(scope="module")
def predictor() -> Hanging:
    return Hanging()


class Late:
    """The model of V1 that is not ready until it is said to be."""

    def __init__(self) -> None:
        self.ready = Event()
        self._sound = v1("late", "png")

    def __call__(self, path: str, body: dict[str, object]) -> Answer:
        return self._sound(path, body) if self.ready.is_set() else (503, {})


@pytest.fixture(scope="module")
def late() -> Late:
    return Late()


@pytest.fixture(scope="module")
def hanging(predictor: Hanging, late: Late, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of `scenes` and of the models that `predictor`, by two names, and `late` have, with one worker."""
    root = tmp_path_factory.mktemp("models")
    spec = {"source": "predictor", "activation": "none", "method": "occlusion", "runtime": "eager"}
    spec |= {"preprocess": {"mean": [0.5] * 3, "std": [0.25] * 3, "resize": [SIZE, SIZE]}}
    with serving(predictor) as address, serving(late) as address_of_late:
        models = (("little", address, "start"), ("late", address_of_late, "demand"), ("other", address, "demand"))
        for name, url, load in models:
            (root / name / "1").mkdir(parents=True)
            options = {"url": f"http://{url}", "model": "late" if name == "late" else "little", "seconds": 3}
            (root / name / "1" / "model.yaml").write_text(yaml.safe_dump(spec | {"options": options, "load": load}))
        with running_eagerly(model_repository=root, api_processes=1, cpus=2) as service:
            yield service


def asked(service: Service, **options: object) -> tuple[int, dict[str, Any]]:
    answer = service.post("/predict", files={"image": PHOTO}, data=options)
    return answer.status_code, answer.json()


def predict(service: Service, **options: object) -> tuple[int, str]:
    status, body = asked(service, **options)
    return status, body.get("code", "")


def test_what_a_model_waits_for_is_told_to_who_asks(hanging: Service, late: Late):
    status, problem = asked(hanging, model="late", timeout_ms=2000)
    waits = r"it waits for the predictor at http://\S+ to be ready: GET /v1/models/late answers 503"
    assert (status, problem["code"]) == (503, "model_loading")
    assert re.search(rf"model late@1 is still being loaded: {waits}; try again", problem["detail"])
    listed = hanging.client.get("/models/late").json()
    assert listed["state"] == "loading"
    assert re.fullmatch(waits, listed["reason"])
    assert predict(hanging, model="other") == (200, ""), "it was not loaded while another waited"
    late.ready.set()
    assert predict(hanging, model="late") == (200, "")
    assert "reason" not in hanging.client.get("/models/late").json()


def test_a_deadline_holds_while_the_predictor_is_silent(hanging: Service, predictor: Hanging):
    assert predict(hanging, model="little") == (200, "")
    predictor.free.clear()
    predictor.asked.clear()
    try:
        assert predict(hanging, model="little", timeout_ms=1000) == (504, "deadline_exceeded")
        assert predictor.asked.is_set()
        assert not predictor.free.is_set(), "it was answered before the predictor had answered"
        with ThreadPoolExecutor(1) as thread:
            other = thread.submit(predict, hanging, model="scenes")
            predictor.free.set()
            assert other.result() == (200, "")
    finally:
        predictor.free.set()


def test_a_predictor_that_stays_silent_is_asked_once_for_all_that_wait(hanging: Service, predictor: Hanging):
    predictor.free.clear()
    predictor.calls = 0
    try:
        with ThreadPoolExecutor(3) as thread:
            silent = [thread.submit(predict, hanging, model="little") for _ in range(3)]
            assert predictor.asked.wait(PATIENCE)
            other = predict(hanging, model="scenes")
            answers = [one.result() for one in silent]
    finally:
        predictor.free.set()
    assert other == (200, "")
    assert answers == [(503, "predictor_failed")] * 3
    assert predictor.calls <= 2, "one call for what came first, one for what came meanwhile"
