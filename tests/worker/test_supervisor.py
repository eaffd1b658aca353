"""What the supervisor makes of deaths, with real processes that die."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest

from gradcam_service.worker.supervisor import Child
from live import PATIENCE
from repository import ROOT


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGRTMIN, "SIGRTMIN"),
        (signal.SIGRTMIN + 3, "SIGRTMIN+3"),
        (signal.SIGRTMAX - 1, f"SIGRTMIN+{signal.SIGRTMAX - 1 - signal.SIGRTMIN}"),
    ],
)
def test_a_death_by_any_signal_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, name: str
):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    child = Child("api 7", "worker.supervised:die_by", (number,))
    child.start()
    child.bury()
    assert child.process is None
    assert [record.fields["reason"] for record in caplog.records if record.message == "process died"] == [name]  # type: ignore[attr-defined]


def test_a_process_that_can_not_be_started_is_started_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    child = Child("api 8", "worker.supervised:die_by", (signal.SIGKILL,))
    mask, (soft, hard) = signal.pthread_sigmask(signal.SIG_BLOCK, ()), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for pauses in (False, True):
            child.start()
            assert child.process is None
            assert (child.not_before > monotonic()) == pauses
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [record.message for record in caplog.records] == ["process can't be started"] * 2
    assert "Too many open files" in caplog.records[0].fields["reason"]  # type: ignore[attr-defined]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    child.start()
    assert child.process is not None
    child.bury()


DEATHS = """
import os, signal
from gradcam_service import metrics
from gradcam_service.worker.supervisor import Child

if __name__ == "__main__":
    for _ in range(4):
        children = [Child(f"api {i}", "worker.supervised:count_and_die_by", (signal.SIGKILL,)) for i in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.bury()
        print(*sorted(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])), sep=",")
    print(metrics.exposition().decode())
"""


def test_processes_that_die_again_and_again_leave_their_counts_and_no_more_files(tmp_path: Path):
    program, folder = tmp_path / "deaths.py", tmp_path / "metrics"
    program.write_text(DEATHS)
    folder.mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()[:4]
    assert {"counter_api 0.db", "counter_api 1.db"} <= set(first.split(","))
    assert set(others) == {first}
    assert 'gradcam_rejected_total{reason="queue_full"} 8.0' in done.stdout
    assert 'gradcam_stage_duration_seconds_count{model="scenes",stage="decode"} 8.0' in done.stdout
    assert "\ngradcam_in_flight 0.0" in done.stdout  # of those who live


MODELS = """
from gradcam_service import metrics
for digest in "ab":
    metrics.MODEL_INFO.labels("scenes", "1", digest).set(1)
    metrics.MODEL_FAILED.labels("scenes", "1").set(0)
metrics.MODEL_INFO.labels("scenes", "1", "a").set(0)
metrics.MODEL_INFO.labels("gone", "1", "c").set(0)
metrics.MODEL_FAILED.labels("gone", "1").set(0)
metrics.MODEL_FAILED.labels("broken", "1").set(1)
print(metrics.exposition().decode())
"""


def test_what_is_told_of_models_does_not_grow_with_those_that_were(tmp_path: Path):
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", MODELS], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("gradcam_model_")] == [
        'gradcam_model_info{digest="b",model="scenes",version="1"} 1.0',
        'gradcam_model_failed{model="scenes",version="1"} 0.0',
        'gradcam_model_failed{model="broken",version="1"} 1.0',
    ]
