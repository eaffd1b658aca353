"""The load test loads the real service, and its exit code says whether the thresholds were met."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import yaml
from PIL import Image

from exposed import value
from live import PATIENCE, Service, closed_port, until
from load import LOCUSTFILE, locust
from repository import ROOT

LOAD = LOCUSTFILE.with_name("load.py")
Interrupt = Callable[[int, signal.Signals], None]
TICKS = """
import json
from argparse import Namespace
from locust.env import Environment
import locustfile

told = {}
for name in locustfile.SHAPES:
    environment = Environment(parsed_options=Namespace(shape=name, num_users=20, run_time=6))
    shape = locustfile.Shape()
    shape.runner = Namespace(environment=environment)
    shape.reset_time()
    users = []
    for second in range(7):
        shape.get_run_time = lambda: second
        users.append((shape.tick() or [None])[0])
    told[name] = users, shape.moments[-1].asked
print(json.dumps(told))
"""


def done(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The load once it is over."""
    return subprocess.run(locust(url, *options), capture_output=True, text=True, timeout=PATIENCE)


def enough(command: list[str | Path], seen: Callable[[], bool], to: Interrupt, cwd: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a load that is interrupted once enough of it has been seen."""
    settings = {"cwd": cwd, "start_new_session": True, "preexec_fn": heed_interrupts}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings) as process:
        try:
            until(seen)
        finally:
            to(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def heed_interrupts() -> None:
    """A shell lets what it starts in the background ignore them, and so all that is started there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_met_thresholds_are_a_success_and_a_report_is_left(service: Service, tmp_path: Path):
    def counts() -> tuple[float, ...]:
        """Predictions and explanations, and pictures of a request after the first."""
        asked = (value(service.client, "gradcam_requests_total", endpoint=path) for path in ("/predict", "/explain"))
        decoded, read = (
            value(service.client, "gradcam_stage_duration_seconds_count", stage=stage) for stage in ("decode", "read")
        )
        return (*asked, decoded - read)

    before = counts()

    def seen() -> bool:  # so many that of each kind one has been answered, whatever is under way
        return all(now - then >= more for now, then, more in zip(counts(), before, (12, 12, 31), strict=True))

    thresholds = ["--max-p95", "600000", "--min-load", "0", "--max-growth", "1000"]
    command = [sys.executable, LOAD, "--host", service.url.removeprefix("http://"), "-t", "1h", *thresholds]
    code, output, errors = enough(command, seen, os.killpg, tmp_path)
    assert code == 0, output + errors
    assert "Shape test updating to 10 users" in errors
    *_, verdict, met, report = output.splitlines()
    assert re.fullmatch(
        r"kept up with [\d.]+ requests/s; most of the time: [\w ]+ \([\w +]+ \d+ % of the time\)", verdict
    )
    assert (met, report) == ("every threshold was met", "report: build/load.html")
    rows = re.findall(r"^(POST|stage) +(\S.*?) +(\d+) +0\(0.00%\)", errors, re.MULTILINE)
    told = {(kind, name): int(count) for kind, name, count in rows}
    for kind, part in (("POST", "/predict 1 image"), ("POST", "/explain"), ("POST", "8 images")):
        assert any(row == kind and part in name for row, name in told), (part, told)
    requests = sum(count for (kind, _), count in told.items() if kind == "POST")
    assert told["stage", "forward"] == requests  # every answer said how long each stage took
    assert re.search(rf"^ +Aggregated +{requests} ", errors, re.MULTILINE)  # and stages are no requests
    written = (tmp_path / "build" / "load.html").read_text()
    assert "forward" in written
    assert f"\n{verdict}\n" in written


def test_unmet_thresholds_are_a_failure_that_says_which(service: Service, tmp_path: Path):
    # users ask at most as often as they are told to, but for the first request of each, which comes at once
    command = locust(service.url, "-u", "2", "-t", "1h", "--max-p95", "1", "--min-load", "1000")
    asked = partial(value, service.client, "gradcam_requests_total", inference="true")
    before = asked()
    code, output, _ = enough(
        command, lambda: asked() >= before + 12, os.kill, tmp_path
    )  # which takes two seconds or more
    assert code == 1
    assert re.search(r"^saturated at [\d.]+ requests/s; bottleneck: ", output, re.MULTILINE)
    assert re.search(r"95 % of requests took up to \d+ ms; 1 ms were allowed", output)
    assert re.search(r"\d+ requests were made of \d+ that the users make", output)
    assert "every threshold was met" not in output
    with closed_port() as taken:
        nobody = done("http://{}:{}".format(*taken.getsockname()), "-u", "2", "-t", "2s")
    assert nobody.returncode == 1
    assert "100.00 % of requests failed; 0.1 % may" in nobody.stdout


def test_what_would_be_refused_request_by_request_is_refused_before(service: Service, tmp_path: Path):
    asked = {"no model 'nobody'": ["--model", "nobody"], "explained by 'magic'": ["--method", "magic"]}
    asked["no folder with pictures"] = ["--pictures", str(tmp_path)]
    with ThreadPoolExecutor(3) as threads:
        refused = threads.map(lambda options: done(service.url, *options), asked.values())
    for sentence, result in zip(asked, refused, strict=True):
        assert result.returncode != 0
        assert sentence in result.stderr
        assert "Aggregated" not in result.stderr  # nobody asked


def test_make_takes_a_service_and_its_key_which_it_does_not_print(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "with ${GRADCAM_API_KEY:-no key}: $*"\n')
    python.chmod(0o755)
    for stamp in (".installed", ".dev"):
        (tmp_path / stamp).touch()

    def made(*arguments: str, **exported: str) -> str:
        environment = {"PATH": os.environ["PATH"], **exported}  # without what a make around this one says
        command = ["make", "--silent", "-C", ROOT, f"VENV={tmp_path}", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    there = ("load", "HOST=https://there.example", "LOAD=-u 3")
    assert made(*there, "KEY=s3cret") == "with s3cret: load_tests/load.py --host https://there.example -u 3\n"
    assert made(*there) == "with no key: load_tests/load.py --host https://there.example -u 3\n"
    assert "s3cret" not in made("--dry-run", *there, "KEY=s3cret")
    assert made("load") == "with no key: load_tests/load.py\n"
    assert made("load", HOST="a-shell-s.own") == "with no key: load_tests/load.py\n"
    assert made("serve", "HOST=0.0.0.0").endswith(" serve --host 0.0.0.0 --port 8000\n")
    assert made("serve").endswith(" serve --host 127.0.0.1 --port 8000\n")


def test_help_has_every_option_of_the_load():
    shown = subprocess.run([sys.executable, LOAD, "--help"], capture_output=True, text=True).stdout
    for option in (
        "host",
        "html",
        "users",
        "run-time",
        "shape",
        "model",
        "method",
        "pictures",
        "min-load",
        "max-growth",
    ):
        assert f" --{option} " in shown


def test_a_shape_is_how_the_number_of_users_changes():
    shown = subprocess.run([sys.executable, "-c", TICKS], cwd=LOAD.parent, capture_output=True, text=True, check=True)
    told = json.loads(shown.stdout)
    assert {shape: users for shape, (users, _) in told.items()} == {
        "steady": [20, 20, 20, 20, 20, 20, None],
        "ramp": [1, 3, 7, 10, 13, 17, None],
        "spike": [2, 2, 20, 20, 2, 2, None],
        "soak": [10, 10, 10, 10, 10, 10, None],
    }
    # two requests of each user in each second
    assert {shape: asked for shape, (_, asked) in told.items()} == {
        "steady": 240,
        "ramp": 102,
        "spike": 96,
        "soak": 120,
    }


def test_a_worker_on_another_machine_runs_what_it_is_sent_which_is_one_file(tmp_path: Path):
    shutil.copy(LOCUSTFILE, tmp_path)
    loaded = subprocess.run([sys.executable, "-c", "import locustfile; locustfile.Shape()"], cwd=tmp_path)
    assert loaded.returncode == 0


def test_the_kubernetes_job_asks_what_locust_understands_and_adds_up_its_processes(service: Service, tmp_path: Path):
    job = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "load" / "job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    here = {
        "--locustfile": str(LOCUSTFILE),
        "--host": service.url,
        "--users": "6",
        "--run-time": "1h",
        "--processes": "2",
    }
    arguments = [
        f"{name}={here.get(name, value)}" if value else name
        for name, _, value in (argument.partition("=") for argument in container["args"])
    ]
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    chosen = ["--model", "alexnet", "--method", "layercam", "--pictures", str(tmp_path)]
    thresholds = ["--max-p95", "600000", "--min-load", "0", "--max-growth", "1000"]
    command = [sys.executable, "-m", "locust", *arguments, *thresholds, *chosen]
    explained = partial(value, service.client, "gradcam_requests_total", model="alexnet", method="layercam")
    before = explained()
    code, output, errors = enough(command, lambda: explained() >= before + 7, os.kill, tmp_path)  # of six users
    assert code == 0, output + errors
    assert output.count("every threshold was met") == 1  # which the master alone can tell
    assert re.search(r"^stage +forward +[1-9]", errors, re.MULTILINE)
