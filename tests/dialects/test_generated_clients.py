"""Clients that others' generators make of the OpenAPI document: they ask, and understand the answers."""

import json
import os
import shutil
import subprocess

import pytest

from api.calls import a_star
from live import PATIENCE

from .conftest import CLIENTS, HERE

TYPESCRIPT = CLIENTS / "openapi_typescript"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "star.png"
    path.write_bytes(a_star((96, 64)))
    return path


@pytest.fixture
def said(service, picture):
    """What the service itself answers to the same questions."""
    targets = ["star", json.dumps({"class": 3, "against": "rest"})]
    asked = {"target": targets, "output": "map", "top_k": 2}
    response = service.client.post("/explain", files={"image": picture.read_bytes()}, data=asked)
    return response.json()["results"][0]


def agrees(told, said, service):
    """Whether a client tells what the service said."""
    assert told["predictions"] == said["predictions"]
    assert told["maps"] == [each["map"]["data"] for each in said["explanations"]]
    assert told["refused"] == [422, "unknown_target"]
    assert told["models"] == [model["name"] for model in service.client.get("/models").json()["models"]]


@pytest.mark.clients
def test_openapi_python_client(ask, picture, said, service):
    told = ask("openapi_python/ask.py", picture).said
    agrees(told, said, service)
    assert told["targets"] == ["ExplainedClass", "ExplainedContrast"]
    assert (told["label"], told["results"], told["depth"]) == (said["predictions"][0]["label"], 2, 8)


@pytest.mark.clients
def test_openapi_typescript(picture, said, service, tmp_path):
    for name in ("ask.ts", "package.json"):
        shutil.copy(HERE / "openapi_typescript" / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(TYPESCRIPT / "node_modules")

    def run(*command):
        environment = os.environ | {"SERVICE": service.url}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("npm", "run", "generate")
    run("npm", "run", "build")
    told = json.loads(run("node", "ask.js", service.url, picture))
    agrees(told, said, service)
    assert told["labels"] == ["star", said["explanations"][1]["target"]["label"]]
