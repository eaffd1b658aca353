"""The load test loads the real service, and its exit code says whether the thresholds were met."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from live import Service, free_port
from load import LOCUSTFILE, locust
from repository import ROOT


def done(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The load once it is over."""
    return subprocess.run(locust(url, *options), capture_output=True, text=True, timeout=120)


def test_met_thresholds_are_a_success_and_a_report_is_left(service: Service, tmp_path: Path):
    report = tmp_path / "load.html"
    result = done(service.url, "-u", "10", "-t", "6s", "--max-p95", "60000", "--min-load", "50", "--html", str(report))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "every threshold was met" in result.stdout
    rows = re.findall(r"^(POST|stage) +(\S.*?) +(\d+) +0\(0.00%\)", result.stderr, re.MULTILINE)
    counts = {(kind, name): int(count) for kind, name, count in rows}
    for kind, part in (("POST", "/predict 1 image"), ("POST", "/explain"), ("POST", "8 images")):
        assert any(row == kind and part in name for row, name in counts), (part, counts)
    requests = sum(count for (kind, _), count in counts.items() if kind == "POST")
    assert counts["stage", "forward"] == requests  # every answer said how long each stage took
    assert re.search(rf"^ +Aggregated +{requests} ", result.stderr, re.MULTILINE)  # and stages are no requests
    assert "forward" in report.read_text()


def test_unmet_thresholds_are_a_failure_that_says_which(service: Service):
    # users ask at most as often as they are told to, but for the first request of each, which comes at once
    result = done(service.url, "-u", "2", "-t", "2s", "--max-p95", "1", "--min-load", "1000")
    assert result.returncode == 1
    assert re.search(r"95 % of requests took up to \d+ ms; 1 ms were allowed", result.stdout)
    assert re.search(r"\d+ requests were made of \d+ that the users make", result.stdout)
    nobody = done(f"http://127.0.0.1:{free_port()}", "-u", "2", "-t", "2s")
    assert nobody.returncode == 1
    assert "100.00 % of requests failed; 0.1 % may" in nobody.stdout


def test_a_shape_is_how_the_number_of_users_changes():
    nowhere = f"http://127.0.0.1:{free_port()}"

    def seen(shape: str, *users: str) -> list[int]:
        told = done(nowhere, "--shape", shape, "-t", "6s", *users).stderr
        return [int(number) for number in re.findall(r"Shape test updating to (\d+) users", told)]

    with ThreadPoolExecutor(5) as threads:  # as they wait most of the time
        usual = threads.submit(seen, "steady")
        shapes = [threads.submit(seen, shape, "-u", "20") for shape in ("steady", "ramp", "spike", "soak")]
    steady, ramp, spike, soak = (shape.result() for shape in shapes)
    assert usual.result() == [10]
    assert (steady, spike, soak) == ([20], [2, 20, 2], [10])
    assert ramp == sorted(ramp)
    assert ramp[0] == 1
    assert ramp[-1] > 10


def test_the_kubernetes_job_asks_what_locust_understands_and_adds_up_its_processes(service: Service):
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "load" / "job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    here = {
        "--locustfile": str(LOCUSTFILE),
        "--host": service.url,
        "--users": "6",
        "--run-time": "4s",
        "--processes": "2",
    }
    arguments = [
        f"{name}={here.get(name, value)}" if value else name
        for name, _, value in (argument.partition("=") for argument in container["args"])
    ]
    command = [
        sys.executable,
        "-m",
        "locust",
        *arguments,
        "--max-p95",
        "60000",
        "--min-load",
        "30",
    ]  # a second of the four is its start
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("every threshold was met") == 1  # which the master alone can tell
    assert re.search(r"^stage +forward +[1-9]", result.stderr, re.MULTILINE)
