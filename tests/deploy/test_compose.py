"""docker-compose.yml and its override for a GPU: what Compose takes, and what the service is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from compose_spec import PyCompose

from gradcam_service.settings import Settings
from repository import ROOT, VERSION, image_environment, instructions


def services_of(file: str) -> dict[str, Any]:
    """The services in a file, in which an unknown key or a value of another type is an error."""
    services: dict[str, Any] = PyCompose.from_yaml((ROOT / file).read_text()).to_dict()["services"]
    return services


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return services_of("docker-compose.yml")


@pytest.fixture(scope="module")
def gpu() -> dict[str, Any]:
    return services_of("deploy/compose.gpu.yml")


def mounts_of(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Source, target, and whether it can be written to."""
    parts = [volume.split(":") for volume in service["volumes"]]
    return [(source, target, "ro" not in options) for source, target, *options in parts]


def test_there_is_what_watches_and_what_loads(services: dict[str, Any]):
    assert services.keys() == {"gradcam", "prometheus", "grafana", "locust"}
    assert [name for name, service in services.items() if service.get("profiles") == ["load"]] == ["locust"]


def test_what_needs_no_key_is_for_this_machine_alone(services: dict[str, Any]):
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == len(services)
    assert {port.split(":")[0] for port in ports} == {"127.0.0.1"}


def test_the_service_is_confined(services: dict[str, Any]):
    service = services["gradcam"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = {target for _, target, can_write in mounts_of(service) if can_write} | set(service["tmpfs"])
    assert writable == {"/tmp", image_environment()["XDG_CACHE_HOME"]}


def test_the_service_understands_its_environment(
    services: dict[str, Any], gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    environment = services["gradcam"]["environment"] | gpu["gradcam"]["environment"]
    assert {name.removeprefix("GRADCAM_").lower() for name in environment} <= Settings.model_fields.keys()
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    settings = Settings()
    assert settings.allow_anonymous
    assert settings.device == "cuda:0"
    assert set(settings.model_repository) <= {target for _, target, _ in mounts_of(services["gradcam"])}


def test_there_is_time_to_finish(services: dict[str, Any]):
    seconds = re.fullmatch(r"(\d+)s", services["gradcam"]["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) > Settings.model_fields["drain_seconds"].default + 1


def test_every_folder_of_this_repository_that_it_mounts_is_there(services: dict[str, Any]):
    mounted = {source for service in services.values() for source, _, _ in mounts_of(service) if source[0] == "."}
    mounted.remove("./models")  # the operator's own
    assert [folder for folder in mounted if not (ROOT / folder).is_dir()] == []


def test_every_volume_is_declared(services: dict[str, Any]):
    named = {source for service in services.values() for source, _, _ in mounts_of(service) if source[0] != "."}
    assert named == PyCompose.from_yaml((ROOT / "docker-compose.yml").read_text()).to_dict()["volumes"].keys()


def test_locust_is_built_and_finds_its_file(services: dict[str, Any]):
    locust = services["locust"]
    assert f"dependencies AS {locust['build']['target']}" in instructions("FROM")
    ((source, target, _),) = mounts_of(locust)
    file = re.search(r"-f (\S+)", locust["command"])
    assert file
    assert (ROOT / file[1].replace(target, source, 1)).is_file()


def test_the_gpu_is_an_override(services: dict[str, Any], gpu: dict[str, Any]):
    assert services["gradcam"]["image"] == f"gradcam-service:{VERSION}"
    assert gpu["gradcam"]["image"] == f"gradcam-service:{VERSION}-cuda"
    (device,) = gpu["gradcam"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert gpu["gradcam"]["build"]["args"] == {"TORCH_INDEX": ""}
    assert "TORCH_INDEX" in {argument.partition("=")[0] for argument in instructions("ARG")}
