"""What happens to callers when real processes die, stop and overlap."""

from __future__ import annotations

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from api.calls import encoded, values
from exposed import value
from gradcam_service.zoo.scenes import CLASSES, scene
from live import GRADCAM, PATIENCE, Service
from repository import EMBEDDED_MODELS


@cache
def picture(seed: int) -> bytes:
    return encoded(Image.fromarray(scene(seed).image), "PNG")


def ready(service: Service) -> bool:
    try:
        return service.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


CHEAP = ("gradcam", "layercam", "gradcam_plus_plus", "guided_backprop", "hirescam")
METHODS = (*CHEAP, "ablationcam", "smoothgrad")


def explain(service: Service, seed: int, targets: list[str], method: str) -> list[np.ndarray]:
    options = {"target": targets, "output": "map", "method": method}
    answer = service.post("/explain", files={"image": picture(seed)}, data=options)
    assert answer.status_code == 200, answer.text
    return [values(explanation["map"]) for explanation in answer.json()["results"][0]["explanations"]]


def test_concurrent_callers_get_what_each_gets_alone(service: Service):
    asked = [
        (seed, [CLASSES[thing.label] for thing in scene(seed).objects], METHODS[seed % (len(METHODS) // 2)])
        for seed in range(len(METHODS))
    ]
    alone = [explain(service, *one) for one in asked]
    batches = value(service.client, "gradcam_batch_size_count")
    with ThreadPoolExecutor(len(asked)) as threads:
        together = list(threads.map(lambda one: explain(service, *one), asked))
    assert value(service.client, "gradcam_batch_size_count") - batches < len(asked), "nothing was batched"
    for expected, found in zip(alone, together, strict=True):
        for one, other in zip(expected, found, strict=True):
            # Batches of other sizes round otherwise, and do nothing else.
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-4 * np.abs(one).max())


def test_each_process_says_in_lists_of_processes_what_it_is(service: Service):
    def title(pid: int) -> str:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")

    titles = {name: {title(pid) for pid in service.pids(name)[-1:]} for name in ("worker", "api 0", "api 1")}
    assert titles == {
        "worker": {"gradcam: worker cpu"},
        "api 0": {"gradcam: api 0"},
        "api 1": {"gradcam: api 1"},
    }
    assert title(service.process.pid) == "gradcam: supervisor"


def test_no_process_but_the_worker_has_torch(service: Service):
    """Whatever is imported by its name when it is looked up, which no contract of imports sees."""
    for method in METHODS:
        explain(service, 0, ["star", '{"class": "star", "against": "rest"}'], method)
    maps = {name: psutil.Process(service.pids(name)[-1]).memory_maps() for name in ("worker", "api 0", "api 1")}
    maps["supervisor"] = psutil.Process(service.process.pid).memory_maps()
    assert [name for name, files in maps.items() if any("libtorch" in file.path for file in files)] == ["worker"]


def refused(**settings: object) -> subprocess.CompletedProcess[str]:
    """A start that must fail."""
    environment = os.environ | {f"GRADCAM_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run([GRADCAM, "serve"], env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = refused(port=taken.getsockname()[1])
    assert result.returncode == 1
    assert "in use" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"model_repository": "/nonexistent"}, 1, "/nonexistent"),
        ({"default_model": "nothing"}, 2, f"there are: {', '.join(EMBEDDED_MODELS)}"),
        ({"device": "tpu"}, 2, "GRADCAM_DEVICE"),
        ({"port": "eighty"}, 2, "GRADCAM_PORT"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(settings: dict[str, object], code: int, said: str):
    result = refused(**settings)
    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
