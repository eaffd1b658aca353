"""The Dockerfile: what can be known without building it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from gradcam_service.settings import Settings
from live import Service, closed_port
from repository import ROOT, TOOLS, healthcheck, image_environment, instructions


def test_hadolint_has_nothing_to_say():
    result = subprocess.run([TOOLS / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_it_runs_as_nobody_in_particular():
    user, _, group = instructions("USER")[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_signals_reach_the_supervisor():
    assert instructions("ENTRYPOINT")[-1] == '["gradcam"]'
    assert instructions("CMD") == ['["serve"]']


def test_it_listens_to_the_world_only_for_those_who_said_so():
    environment = {name: value for name, value in image_environment().items() if name.startswith("GRADCAM_")}
    assert environment == {"GRADCAM_HOST": "0.0.0.0"}
    assert instructions("EXPOSE") == [str(Settings.model_fields["port"].default)]


def test_every_file_that_it_copies_is_let_through():
    let_through = set(re.findall("^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert [name for name in let_through if not (ROOT / name).exists()] == []
    named = {name for copied in instructions("COPY") if "--from" not in copied for name in copied.split()[:-1]}
    assert named - {"."} <= let_through
    # What pyproject.toml names, without which nothing is built.
    assert {"README.md", "LICENSE", "service"} <= let_through


def check(port: int) -> int:
    _, *arguments = healthcheck()
    environment = os.environ | {"GRADCAM_PORT": str(port)}
    return subprocess.run([sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL).returncode


def test_the_health_check_passes_where_the_service_is_ready(service: Service):
    assert check(service.client.base_url.port or 0) == 0


def test_the_health_check_fails_where_nothing_listens():
    with closed_port() as nobody:
        assert check(nobody.getsockname()[1]) != 0


def test_the_health_check_fails_where_the_answer_is_no(tmp_path: Path):
    # A server of files, none of which is /readyz.
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        code = check(int(port[1]))
        server.kill()
    assert code == 1
