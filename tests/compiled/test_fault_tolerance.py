"""The faults of ``tests/worker/test_fault_tolerance.py`` where models are compiled and no torch is installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
from worker import faulty
from worker.conftest import busy  # noqa: F401
from worker.test_fault_tolerance import (  # noqa: F401
    small_disk,
    test_a_batch_without_memory_is_halved,
    test_a_job_at_fault_fails_alone,
    test_a_job_that_stops_the_worker_is_refused_in_the_end,
    test_a_job_whose_caller_leaves_never_runs,
    test_a_job_whose_deadline_passes_in_the_queue_never_runs,
    test_a_worker_that_stops_is_replaced_and_no_request_fails,
    test_explanations_leave_nothing_behind,
    test_no_request_fails_when_workers_are_killed_but_one_that_will_not_wait,
    test_no_request_that_another_process_holds_fails_when_an_api_process_is_killed,
    test_two_kills_by_somebody_else_are_no_fault_of_the_job,
    test_what_is_too_much_is_refused_and_the_rest_is_answered,
    test_without_a_disk_for_sockets_and_metrics_it_does_not_start,
)
from worker.test_processes import picture

from exposed import value
from gradcam_service.registry.repository import EMBEDDED
from live import Service
from torchless import running_torchless, serve

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def start(torchless: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Service]]:
    """Starts a service with `scenes` compiled."""
    repository = tmp_path_factory.mktemp("tolerant")
    shutil.copytree(EMBEDDED / "scenes" / "1" / "compiled", repository / "scenes" / "1")
    return partial(running_torchless, torchless, model_repository=repository, api_processes=2)


@pytest.fixture(scope="module")
def mortal(start: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """See `worker.test_fault_tolerance.mortal`."""
    with start(queue_size=32, timeout_ms=120_000) as service:
        yield service


@pytest.fixture(scope="module")
def lasting(start: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """See `worker.test_fault_tolerance.lasting`."""
    with start() as service:
        yield service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code and the model of `faults` are."""
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture
def start_faulty(torchless: Path) -> Callable[[Path], AbstractContextManager[Service]]:
    """See `worker.conftest.start_faulty`."""
    return lambda folder: running_torchless(torchless, **faulty.write_compiled(folder))


@pytest.fixture(scope="module")
def faults(torchless: Path, folder: Path) -> Iterator[Service]:
    """A service with the model of `faulty`, compiled."""
    with running_torchless(torchless, **faulty.write_compiled(folder)) as service:
        yield service


@pytest.fixture
def program(torchless: Path) -> list[str]:
    """See `worker.conftest.program`."""
    return serve(torchless)


def test_a_full_disk_costs_nothing_but_what_would_be_kept_on_it(
    start: Callable[..., AbstractContextManager[Service]],
    small_disk: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """Where OpenVINO keeps what it compiles, and what is fetched."""
    for variable in ("TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(small_disk))
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    with start() as service:
        for seed in range(20):
            assert service.client.post("/explain", files={"image": picture(seed)}).status_code == 200
        assert value(service.client, "gradcam_worker_restarts_total") == 0
        assert [len(service.pids(name)) for name in ("worker", "api 0", "api 1")] == [1, 1, 1]
