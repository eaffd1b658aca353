"""Faults injected into real processes and their jobs, and what is promised all the same, over real sockets.

A short form of each fault; `make chaos` injects all of them at full length.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from exposed import value
from live import PATIENCE, Service, fresh, repeated, running, running_eagerly, running_lightly, until

from . import faulty
from .faulty import ask, codes
from .test_processes import CHEAP, METHODS, picture, ready


@dataclass
class Load:
    """What became of the requests of a mixed load: by its methods, those among them that explained something lately."""

    methods: list[str]
    lately: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def mixed_load(service: Service, connections: int) -> Iterator[Load]:
    """Predictions and explanations of every price, without a pause, while the block runs."""
    load = Load(offered(service, METHODS))
    with fresh(service.url) as client:

        def ask(seed: int) -> None:
            method = load.methods[seed % len(load.methods)]
            path, options = ("/explain", {"method": method}) if seed % 3 else ("/predict", {})
            answer = client.post(path, files={"image": picture(seed % 32)}, data=options)
            load.statuses[answer.status_code] += 1
            if answer.status_code != 200:
                load.failures.append(answer.text)
            elif options:
                load.lately.add(method)

        with repeated(ask, connections):
            yield load
        print(f"answered: {dict(load.statuses)}")


def offered(service: Service, methods: Sequence[str]) -> list[str]:
    """Those of some methods that the service's model can be explained by: a compiled one by fewer."""
    able = service.client.get("/models/scenes").json()["methods"]
    return [method for method in methods if method in able]


def answered(load: Load, more: int) -> None:
    """Wait until so many more requests have been answered."""
    wanted = load.statuses.total() + more
    until(lambda: load.statuses.total() >= wanted, seconds=PATIENCE)


def explained(load: Load) -> None:
    """Wait until every method has explained something: what a worker loads for some of them is loaded."""
    load.lately.clear()
    until(lambda: load.lately >= {*load.methods}, seconds=PATIENCE)


@pytest.fixture(scope="module")
def mortal(chaos: bool) -> Iterator[Service]:
    """A service of which one process after the other is killed, and started again; 32 images fill its queue."""
    settings = {"device": "cpu", "api_processes": 2, "queue_size": 32}
    with running(**settings, timeout_ms=120_000) if chaos else running_eagerly(**settings) as service:
        yield service


def restarts(service: Service, reason: str) -> float:
    return value(service.client, "gradcam_worker_restarts_total", device="cpu", reason=reason)


def test_no_request_fails_when_workers_are_killed_but_one_that_will_not_wait(mortal: Service, chaos: bool):
    kills, before = 10 if chaos else 1, restarts(mortal, "SIGKILL")
    with mixed_load(mortal, 8 if chaos else 4) as load:
        for _ in range(kills):
            explained(load) if chaos else answered(load, 8)
            os.kill(mortal.pids("worker")[-1], signal.SIGKILL)
            until(lambda: not ready(mortal))
            hurried = mortal.post("/predict", files={"image": picture(0)}, data={"timeout_ms": "200"})
            assert (hurried.status_code, hurried.json()["code"]) == (503, "not_ready")
            assert int(hurried.headers["retry-after"]) > 0
            until(lambda: ready(mortal))
        answered(load, 10)
    assert restarts(mortal, "SIGKILL") - before == kills
    assert value(mortal.client, "gradcam_worker_up") == 1
    until(lambda: value(mortal.client, "gradcam_in_flight"), 0)
    assert set(load.statuses) == {200}, load.failures[:3]


def test_a_worker_that_stops_is_replaced_and_no_request_fails(mortal: Service, chaos: bool):
    with mixed_load(mortal, 8 if chaos else 4) as load:
        answered(load, 8)
        stopped = mortal.pids("worker")[-1]
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: restarts(mortal, "hung"), 1)
        assert not Path(f"/proc/{stopped}").exists()
        answered(load, 10)
    assert set(load.statuses) == {200}, load.failures[:3]


def test_no_request_that_another_process_holds_fails_when_an_api_process_is_killed(mortal: Service):
    killed = mortal.pids("api 0")
    lost, statuses = [0], Counter[int]()

    def ask(seed: int) -> None:
        try:
            answer = mortal.post("/predict", files={"image": picture(seed % 8)})
            statuses[answer.status_code] += 1
        except httpx.TransportError:  # it was on the process that died
            lost[0] += 1

    with repeated(ask, 4, pause=0.02):
        until(lambda: statuses.total() > 20)
        os.kill(killed[-1], signal.SIGKILL)
        until(lambda: len(mortal.pids("api 0")), len(killed) + 1)
        before = statuses.total()
        until(lambda: statuses.total() > before + 50)
    print(f"answered: {dict(statuses)}, lost: {lost[0]}")
    assert set(statuses) == {200}
    assert lost[0] <= 4


def test_what_is_too_much_is_refused_and_the_rest_is_answered(mortal: Service, chaos: bool):
    answers: list[httpx.Response] = []
    with fresh(mortal.url) as client:

        def ask(number: int) -> None:
            answers.append(client.post("/explain", files={"image": picture(number % 40)}))

        before = value(mortal.client, "gradcam_rejected_total", reason="queue_full")
        with repeated(ask, 40):
            time.sleep(60 if chaos else 0)
            until(lambda: {answer.status_code for answer in answers} >= {200, 429})
    refused = [answer for answer in answers if answer.status_code == 429]
    until(lambda: value(mortal.client, "gradcam_in_flight"), 0)
    until(lambda: value(mortal.client, "gradcam_queue_depth"), 0)
    until(lambda: value(mortal.client, "gradcam_rejected_total", reason="queue_full") - before, len(refused))
    assert mortal.post("/explain", files={"image": picture(0)}).status_code == 200
    print(f"answered: {dict(Counter(answer.status_code for answer in answers))}")
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def batches(service: Service) -> float:
    return value(service.client, "gradcam_batch_size_count")


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (faulty.RAISES, "internal", 500),
        (faulty.TOO_LARGE, "out_of_memory", 503),
        (faulty.NOT_A_NUMBER, "non_finite", 422),
        (faulty.CRASHES, "crashes_worker", 422),
    ],
)
def test_a_job_at_fault_fails_alone(faults: Service, fault: int, code: str, status: int, chaos: bool):
    if fault == faulty.CRASHES and not chaos:  # of each part of a batch that it is in, a worker dies
        assert codes(ask(faults, [0, fault])) == ["ok", code]
        return
    assert codes(ask(faults, [0, 0, fault, 0, 0, 0])) == ["ok", "ok", code, "ok", "ok", "ok"]
    alone = ask(faults, [fault])
    assert (alone.status_code, alone.json()["code"]) == (status, code)
    assert "NaN" not in alone.text.replace("(NaN or infinity)", "")
    assert codes(ask(faults, [0, 0])) == ["ok", "ok"]


def test_a_batch_without_memory_is_halved(faults: Service, busy: Callable[[], None]):
    # Of eight pictures one can't be in a batch of more than two: 8 → 4 + 4 → 2 + 2, and the other four stay together.
    before = batches(faults)

    def decoded() -> float:
        return value(faults.client, "gradcam_stage_duration_seconds_count", model="faulty", stage="decode")

    wanted = decoded() + 8
    with ThreadPoolExecutor(1) as thread:
        eight = thread.submit(ask, faults, [faulty.CROWDED] + [0] * 7)
        until(decoded, wanted)
        busy()
        assert codes(eight.result()) == ["ok"] * 8
    assert batches(faults) - before == 1 + 3  # the one that kept it busy, then 2 + 2 + 4


def test_a_job_whose_deadline_passes_in_the_queue_never_runs(faults: Service, busy: Callable[[], None]):
    before = batches(faults)
    late = ask(faults, [0], timeout_ms=300)  # answered while the device is busy
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    busy()
    assert codes(ask(faults, [0])) == ["ok"]
    assert batches(faults) - before == 2


def test_a_job_whose_caller_leaves_never_runs(faults: Service, busy: Callable[[], None]):
    before = batches(faults)
    caller = http.client.HTTPConnection("127.0.0.1", int(faults.url.rpartition(":")[2]))
    caller.request("POST", "/predict", faulty.picture(0), {"Content-Type": "image/png"})
    until(lambda: value(faults.client, "gradcam_in_flight"), 2)
    caller.close()
    until(lambda: value(faults.client, "gradcam_in_flight"), 1)
    time.sleep(0.5)  # the worker is being told
    busy()
    until(lambda: value(faults.client, "gradcam_requests_total", endpoint="/predict", status="499"), 1)
    assert codes(ask(faults, [0])) == ["ok"]
    assert batches(faults) - before == 2


def test_a_job_that_stops_the_worker_is_refused_in_the_end(
    tmp_path: Path, start_faulty: Callable[[Path], AbstractContextManager[Service]], chaos: bool
):
    if not chaos:
        pytest.skip("waits out three lost heartbeats; make chaos")
    with start_faulty(tmp_path) as service:
        answer = ask(service, [0, faulty.STOPS, 0], timeout_ms=240_000)
        assert codes(answer) == ["ok", "crashes_worker", "ok"]


def test_two_kills_by_somebody_else_are_no_fault_of_the_job(folder: Path, faults: Service):
    file = folder / "code" / "busy"
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(ask, faults, [faulty.BUSY], timeout_ms=120_000)
        for _ in range(2):
            until(file.exists)  # its first step has begun
            os.kill(faults.pids("worker")[-1], signal.SIGKILL)
            file.unlink()
        until(file.exists)
        file.unlink()
        assert codes(job.result()) == ["ok"]


@pytest.fixture
def lasting(request: pytest.FixtureRequest, chaos: bool) -> Iterator[Service]:
    """A service that goes on: at full length one whose model is on the fastest runtime."""
    if not chaos:
        yield request.getfixturevalue("service")
        return
    with running(device="cpu", api_processes=2) as service:
        yield service


def test_explanations_leave_nothing_behind(lasting: Service, chaos: bool):
    """Resident memory and open files of each process after 10,000 more explanations, or 50 of the cheaper methods."""
    count, growth, methods = (10_000, 5e6, METHODS) if chaos else (50, 5e6, CHEAP)
    methods = offered(lasting, methods)

    def explain(count: int) -> dict[int, tuple[int, int]]:
        with fresh(lasting.url) as client:
            for i in range(count):
                options = {"method": methods[i % len(methods)], "output": ["heatmap", "overlay", "map"]}
                assert client.post("/explain", files={"image": picture(i % 32)}, data=options).status_code == 200
            # before the connection ends, else it is open still or not
            return {process.pid: (process.memory_info().rss, process.num_fds()) for process in lasting.children()}

    before = explain(100 if chaos else 50)
    after = explain(count)
    assert after.keys() == before.keys()
    for pid, (memory, files) in after.items():
        assert memory - before[pid][0] < growth
        assert files - before[pid][1] < max(3, count // 20)  # other tests have connections of their own


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"only who may mount file systems can fill one: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


YAML = "source: torchvision\narchitecture: alexnet\nweights: {}\nsha256: {}\n"


def test_a_full_disk_costs_only_what_needs_it(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch):
    for variable in ("TMPDIR", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(small_disk))
    folder = tmp_path / "models" / "fetched" / "1"
    folder.mkdir(parents=True)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(bytes(10**6))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    files = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/weights.safetensors"
    (folder / "model.yaml").write_text(YAML.format(url, digest))
    with server, running_lightly(model_repository=tmp_path / "models", api_processes=2) as service:
        with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        for seed in range(20):
            assert service.client.post("/explain", files={"image": picture(seed)}).status_code == 200
        assert service.client.get("/models/fetched").json()["state"] == "failed"
        assert "No space left" in service.client.get("/models/fetched").json()["reason"]
        assert value(service.client, "gradcam_worker_restarts_total") == 0
        assert [len(service.pids(name)) for name in ("worker", "api 0", "api 1")] == [1, 1, 1]


def test_without_a_disk_for_sockets_and_metrics_it_does_not_start(tmp_path: Path, program: list[str]):
    own = ["unshare", "--mount", "sh", "-c"]  # what it mounts, no other process sees
    if subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("only who may mount file systems can have small ones")
    small = " && ".join(f"mount -t tmpfs -o size=1m tmpfs {place}" for place in ("/dev/shm", tmp_path))
    environment = os.environ | {"TMPDIR": str(tmp_path), "GRADCAM_PORT": "0"}
    command = [*own, f"{small} && exec {shlex.join(program)}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == f"gradcam: sockets and metrics need 16 MiB; there is less in /dev/shm and {tmp_path}"
