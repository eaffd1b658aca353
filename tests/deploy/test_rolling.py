"""Replicas are replaced and no caller notices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from live import running_eagerly, until
from repository import ROOT

from .prometheus import installed


def test_a_stopping_service_is_not_ready_and_yet_answers_new_callers(tmp_path: Path):
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    with running_eagerly(notice_seconds=10, api_processes=2) as service:
        assert service.get("/readyz").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/readyz").status_code, 503)
        answers = [service.post("/predict", files={"image": picture}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert service.get("/livez").status_code == 200
        assert service.process.wait(60) == 0


@pytest.mark.parametrize("replaced", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_two_replicas_behind_haproxy_are_replaced_under_load_and_no_request_fails(replaced: int):
    """One of them; `make test-all` has both replaced, one after the other."""
    installed("haproxy")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, ROOT / "load_tests" / "rolling.py", "--replace", str(replaced), "--users", "4"]
    command += ["--min-load", "0", "--max-p95", "600000", "--max-growth", "1000"]  # however slow this machine is
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("the oldest replica is stopped") == replaced
    meanwhile = re.search(r"^(\d+) requests since the first replacement began$", result.stdout, re.MULTILINE)
    assert meanwhile is not None
    assert int(meanwhile[1]) >= 200 * replaced
    total = re.search(r"^ +Aggregated +(\d+) +0\(0.00%\)", result.stderr, re.MULTILINE)
    assert total is not None
    assert int(total[1]) >= int(meanwhile[1])  # as locust counts, all of them answered
