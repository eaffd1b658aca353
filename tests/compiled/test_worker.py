"""A real worker that serves compiled models has no torch in its memory, until a model needs it."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import SMALL
from PIL import Image

from compiled.test_compiled import both
from live import Service, repeated, running


def holds_torch(service: Service) -> bool:
    """Whether the worker's process has torch's library mapped into its memory."""
    worker = psutil.Process(service.pids("worker")[-1])
    return any("libtorch" in Path(mapped.path).name for mapped in worker.memory_maps())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with scenes compiled, and a model that torch computes if it is asked for."""
    root = tmp_path_factory.mktemp("models")
    compiled = both("scenes")[1]
    (root / "scenes").mkdir()
    (root / "scenes" / "1").symlink_to(compiled.folder)
    (root / "small" / "1").mkdir(parents=True)
    (root / "small" / "1" / "model.yaml").write_text(SMALL + "load: demand\n")
    with running(model_repository=root, embedded=False, device="cpu", cpus=2, timeout_ms=170_000) as started:
        yield started


def picture() -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)).save(written, "PNG")
    return written.getvalue()


def test_torch_comes_with_the_first_model_that_needs_it_while_compiled_ones_answer(service: Service):
    answered = threading.Event()

    def ask(_: int) -> None:
        told = service.post("/explain", files={"image": picture()}, data={"method": "gradcam", "output": "map"})
        assert told.status_code == 200, told.text
        answered.set()

    ask(0)
    assert service.get("/models/scenes").json()["source"] == "compiled"
    assert not holds_torch(service)
    refused = service.post("/explain", files={"image": picture()}, data={"method": "smoothgrad"})
    assert refused.status_code == 422
    assert "the full model has" in refused.json()["detail"]
    with repeated(ask, threads=1, pause=0.5):
        full = service.post("/explain", files={"image": picture()}, data={"model": "small", "method": "smoothgrad"})
        assert full.status_code == 200, full.text
        answered.clear()
        assert answered.wait(60)
    assert holds_torch(service)
