"""Replicas are replaced and no caller notices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from PIL import Image

from live import running_eagerly, until
from repository import ROOT

from .prometheus import installed


def test_a_stopping_service_is_not_ready_and_yet_answers_new_callers(tmp_path: Path):
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    picture = (tmp_path / "picture.png").read_bytes()
    with running_eagerly(notice_seconds=10, api_processes=2) as service:
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{service.url}/readyz").status_code, 503)
        answers = [httpx.post(f"{service.url}/predict", files={"image": picture}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200] * 4
        assert httpx.get(f"{service.url}/livez").status_code == 200
        assert service.process.wait(60) == 0


def test_two_replicas_behind_haproxy_are_replaced_under_load_and_no_request_fails():
    installed("haproxy")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, ROOT / "load_tests" / "rolling.py", "--users", "4"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("the oldest replica is stopped") == 2
    meanwhile = re.search(r"^(\d+) requests since the first replacement began$", result.stdout, re.MULTILINE)
    assert meanwhile is not None
    assert int(meanwhile[1]) >= 400
    total = re.search(r"^ +Aggregated +(\d+) +0\(0.00%\)", result.stderr, re.MULTILINE)
    assert total is not None
    assert int(total[1]) >= int(meanwhile[1])  # as locust counts, all of them answered
