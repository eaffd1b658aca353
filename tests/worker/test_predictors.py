"""A predictor that does not answer holds its callers no longer than they wait, and others for one call at most."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

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


@pytest.fixture(scope="module")
def hanging(predictor: Hanging, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of `scenes` and of a model that `predictor` has, with one worker."""
    root = tmp_path_factory.mktemp("models")
    (root / "little" / "1").mkdir(parents=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "resize": [SIZE, SIZE]}
    spec = {"source": "predictor", "activation": "none", "method": "occlusion", "runtime": "eager"}
    with serving(predictor) as address:
        spec |= {"preprocess": preprocess, "options": {"url": f"http://{address}", "model": "little", "seconds": 3}}
        (root / "little" / "1" / "model.yaml").write_text(yaml.safe_dump(spec))
        with running_eagerly(model_repository=root, api_processes=1, cpus=2) as service:
            yield service


def predict(service: Service, **options: object) -> tuple[int, str]:
    answer = service.post("/predict", files={"image": PHOTO}, data=options)
    return answer.status_code, answer.json().get("code", "")


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
