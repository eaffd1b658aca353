"""Expensive explanations let others in between, and are bounded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from api.calls import encoded
from live import Service


@pytest.fixture(scope="module")
def photo() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")


def test_predictions_are_answered_while_rise_runs(service: Service, photo: bytes):
    def rise() -> httpx.Response:
        options = {"method": "rise", "masks": "500", "output": "map"}
        return service.post("/explain", files={"image": photo}, data=options)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(rise)
        answered = 0
        while not running.done() and answered <= 10:
            prediction = service.client.post("/predict", files={"image": photo})
            assert prediction.status_code == 200
            answered += not running.done()
        assert running.result().status_code == 200
    # 500 masks in chunks of 8: a prediction may wait for one chunk, not for 62 of them.
    assert answered > 10


def test_an_expensive_explanation_ends_with_its_deadline(service: Service, photo: bytes):
    options = {"method": "rise", "masks": "4000", "timeout_ms": "500"}
    assert service.client.post("/explain", files={"image": photo}, data=options).json()["code"] == "deadline_exceeded"
    assert service.client.post("/predict", files={"image": photo}).status_code == 200


def test_what_would_cost_too_much_is_refused_by_name_and_number(service: Service, photo: bytes):
    answer = service.client.post("/explain", files={"image": photo}, data={"method": "rise", "masks": "5000"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "too_expensive"
    assert "rise would take 5001 forward passes of this model; at most 5000" in answer.json()["detail"]


def test_the_cost_of_every_method_is_listed(service: Service):
    listed = {m["name"]: m for m in service.client.get("/models/resnet18").json()["method_details"]}
    assert listed["gradcam"]["forward_passes"] == 1
    assert listed["scorecam"]["forward_passes"] == 1 + 512
    assert listed["rise"]["forward_passes"] == 1 + listed["rise"]["options"]["masks"]


def test_a_method_that_cannot_explain_a_model_is_refused_with_what_can(service: Service, photo: bytes):
    answer = service.client.post("/explain", files={"image": photo}, data={"model": "alexnet", "method": "cam"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "unsupported_method"
    assert "global average pooling" in answer.json()["detail"]
    assert "gradcam" in answer.json()["detail"]
    assert "cam" not in service.client.get("/models/alexnet").json()["methods"]


@pytest.mark.parametrize(("option", "value"), [("masks", "10"), ("steps", "5"), ("seed", "1")])
def test_an_option_of_another_method_is_refused(service: Service, photo: bytes, option: str, value: str):
    answer = service.client.post("/explain", files={"image": photo}, data={"method": "gradcam", option: value})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_option"
    assert f"{option!r} is no option of gradcam" in answer.json()["detail"]
