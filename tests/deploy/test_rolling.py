"""Replicas are replaced and no caller notices."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import rolling
from repository import ROOT
from torchless import running_torchless

from .prometheus import installed

UNHURRIED = ["--users", "4", "--min-load", "0", "--max-p95", "600000", "--max-growth", "1000"]
"""However slow this machine is."""


@pytest.mark.exhaustive
def test_two_replicas_behind_haproxy_are_replaced_under_load_and_no_request_fails():
    """One after the other; what callers see while one of two stops is also in ``tests/test_stopping.py``."""
    installed("haproxy")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, ROOT / "load_tests" / "rolling.py", *UNHURRIED]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("the oldest replica is stopped") == 2
    meanwhile = re.search(r"^(\d+) requests since the first replacement began$", result.stdout, re.MULTILINE)
    assert meanwhile is not None
    assert int(meanwhile[1]) >= 400
    total = re.search(r"^ +Aggregated +(\d+) +0\(0.00%\)", result.stderr, re.MULTILINE)
    assert total is not None
    assert int(total[1]) >= int(meanwhile[1])  # as locust counts, all of them answered


@pytest.mark.exhaustive
def test_two_replicas_without_torch_are_replaced_under_load_and_no_request_fails(torchless: Path, capfd):
    installed("haproxy")
    replica = partial(running_torchless, torchless, embedded=True, default_model="scenes")
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert rolling.main(UNHURRIED, replica) == 0
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capfd.readouterr().out.count("the oldest replica is stopped") == 2
