"""What becomes of jobs in the worker, on the embedded model, without a socket's other end."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from time import monotonic

import torch
import zmq

from gradcam_service.errors import ServiceError
from gradcam_service.question import Question
from gradcam_service.registry.listing import Model
from gradcam_service.registry.repository import EMBEDDED, scan
from gradcam_service.targets import Target
from gradcam_service.worker.callers import Callers
from gradcam_service.worker.in_flight_log import InFlightLog
from gradcam_service.worker.jobs import Jobs
from gradcam_service.worker.messages import Job, TensorSpec
from gradcam_service.worker.models import Models
from gradcam_service.worker.poller import Snapshot
from live import PATIENCE
from repository import EMBEDDED_KEYS

CPU = torch.device("cpu")
SHAPE = (128, 128, 3)


def loaded(folder: Path, runtime: str = "eager") -> tuple[Models, Model]:
    """A worker's models, of which one is ready."""
    shutil.copytree(EMBEDDED / "scenes" / "1", folder / "mine" / "1")
    with (folder / "mine" / "1" / "model.yaml").open("a") as file:
        file.write(f"\nruntime: {runtime}\n")
    woken = threading.Event()
    models = Models(CPU, 0, None, woken.set)
    models.apply(Snapshot(scan([folder]), frozenset(EMBEDDED_KEYS)))
    while not models.started:
        assert woken.wait(PATIENCE)
        woken.clear()
        models.collect()
    (ready,) = (model for model in models.status() if model.state == "ready")
    return models, ready


def test_a_job_that_can_not_be_queued_is_answered_and_harms_no_other(tmp_path: Path):
    class Heard(Callers):
        def fail(self, caller: bytes, request_id: int, error: ServiceError) -> None:
            failed.append((request_id, error.code))

    failed: list[tuple[int, str]] = []
    models, model = loaded(tmp_path / "models", runtime="auto")  # its compiled form
    callers = Heard(f"ipc://{tmp_path}/worker.sock", lambda caller: None)
    jobs = Jobs("cpu", CPU, models, callers, InFlightLog(f"ipc://{tmp_path}/worker.sock", longest=120.0), 10_000)
    question = Question("gradcam", targets=(Target("of a plugin that fails", 0),))
    inputs = {"image": TensorSpec("uint8", SHAPE)}
    jobs.put(
        b"nobody",
        Job(7, model.key, model.card_digest, inputs, monotonic() + 60, monotonic(), question),
        [zmq.Frame(bytes(128 * 128 * 3))],
    )
    assert failed == [(7, "internal")]
    assert not jobs
    callers.socket.close()


def test_an_explanation_is_not_worked_out_for_a_caller_found_to_be_gone_in_the_same_batch(tmp_path: Path):
    models, model = loaded(tmp_path / "models")
    address = f"ipc://{tmp_path}/worker.sock"
    callers = Callers(address, lambda caller: jobs.forget(caller))
    jobs = Jobs("cpu", CPU, models, callers, InFlightLog(address, longest=120.0), 10_000)

    def put(number: int, question: Question | None) -> None:
        inputs = {"image": TensorSpec("uint8", SHAPE)}
        job = Job(number, model.key, model.card_digest, inputs, monotonic() + 60, monotonic(), question)
        jobs.put(b"nobody", job, [zmq.Frame(bytes(128 * 128 * 3))])

    put(0, Question("rise"))
    jobs.run_batch()
    assert jobs, "it is worked out in steps"
    put(1, None)
    put(2, Question("rise"))
    jobs.run_batch()
    assert not jobs
    callers.socket.close()
