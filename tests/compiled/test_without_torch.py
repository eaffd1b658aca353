"""The service where no torch is installed at all: compiled models answer, come and go, and others are told of."""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL
from worker.test_processes import picture, ready

import gradcam_service
from api.calls import values
from compiled.test_compiled import answers, near
from exposed import value
from gradcam_service.compiled.network import NEEDS_FULL_MODEL
from gradcam_service.question import Question
from gradcam_service.registry import loader
from gradcam_service.registry.loading import NEEDS_TORCH
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry
from gradcam_service.zoo.scenes import scene
from live import Service, repeated, until
from repository import ROOT
from requirements import package, requirements
from torchless import running_torchless

SCENES = EMBEDDED / "scenes" / "1"


def test_every_module_is_imported_or_lacks_what_was_left_out(torchless: Path):
    """Which keeps the list of what is left out from naming what others need, and from forgetting what is new."""
    found = pkgutil.walk_packages(gradcam_service.__path__, "gradcam_service.")
    names = [module.name for module in found if not module.name.endswith("__main__")]
    script = """
import importlib, json, sys
lacking = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        lacking[name] = error.name.partition(".")[0]
print(json.dumps(lacking))
"""
    done = subprocess.run([torchless, "-P", "-c", script, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    of_module = packages_distributions()
    lacking = {found for module in json.loads(done.stdout).values() for found in of_module.get(module, [module])}
    assert "torch" in lacking
    project = ROOT / "pyproject.toml"
    assert lacking <= {*map(package, requirements(project))} - {*map(package, requirements(project, slim=True))}


def test_a_gpu_is_left_alone(torchless: Path):
    script = """
from pathlib import Path
Path.exists = lambda path: True
from gradcam_service.worker.placement import devices, pick_device
print(pick_device("auto"), *devices("auto"))
"""
    assert subprocess.check_output([torchless, "-P", "-c", script], text=True) == "cpu cpu\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with `scenes` compiled, as `drawn`, and a model that torch would have to compute."""
    root = tmp_path_factory.mktemp("torchless") / "models"
    shutil.copytree(SCENES / "compiled", root / "drawn" / "1")
    (root / "small" / "1").mkdir(parents=True)
    (root / "small" / "1" / "model.yaml").write_text(SMALL)
    return root


@pytest.fixture(scope="module")
def service(torchless: Path, repository: Path) -> Iterator[Service]:
    (plugins := repository.parent / "plugins").mkdir()
    shutil.copy(ROOT / "tests" / "plugins" / "product.py", plugins)
    settings = {"model_repository": repository, "embedded": True, "default_model": "drawn", "poll_seconds": 0.2}
    settings |= {"plugins": plugins}
    with running_torchless(torchless, **settings, api_processes=2) as started:
        yield started


def version(service: Service) -> str:
    answer = service.post("/predict", files={"image": picture(0)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model"]["version"])


def test_a_compiled_model_answers_as_torch_does(service: Service):
    in_torch = loader.load(Entry("scenes", "1", LocalPlace(SCENES)), torch.device("cpu"))
    (expected,) = answers(in_torch, [{"image": scene(0).image}], [Question("gradcam")])
    told = service.post("/explain", files={"image": picture(0)}, data={"method": "gradcam", "output": "map"})
    (result,) = told.json()["results"]
    (explanation,) = result["explanations"]
    assert explanation["target"]["index"] == expected.targets[0].value
    near(values(explanation["map"]), expected.maps[0])


def test_a_model_that_needs_torch_says_so_and_costs_nothing_else(service: Service):
    refused = service.post("/predict", files={"image": picture(0)}, data={"model": "small"})
    assert (refused.status_code, refused.json()["code"]) == (503, "model_failed")
    assert NEEDS_TORCH in refused.json()["detail"]
    assert service.get("/models/small").json()["reason"] == NEEDS_TORCH
    assert ready(service)
    assert version(service) == "1"
    assert value(service.client, "gradcam_worker_restarts_total") == 0


def test_embedded_models_answer(service: Service):
    for model in ("imagenet", "scenes"):
        answer = service.post("/explain", files={"image": picture(0)}, data={"model": model})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("model", ["drawn", "scenes"])
def test_a_method_that_needs_torch_is_refused_by_name(service: Service, model: str):
    options = {"model": model, "method": "smoothgrad"}
    refused = service.post("/explain", files={"image": picture(0)}, data=options)
    assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_method")
    assert NEEDS_FULL_MODEL in refused.json()["detail"]


@pytest.mark.parametrize("model", ["drawn", "scenes"])
def test_a_target_that_is_written_in_torch_is_refused(service: Service, model: str):
    options = {"model": model, "target": '{"product": [0, 1]}'}
    refused = service.post("/explain", files={"image": picture(0)}, data=options)
    assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_method")
    assert "a target of kind product" in refused.json()["detail"]
    assert value(service.client, "gradcam_worker_restarts_total") == 0


def test_versions_are_swapped_and_a_worker_is_killed_and_no_request_fails(service: Service, repository: Path):
    statuses, versions, failures = Counter[int](), set[str](), []

    def ask(seed: int) -> None:
        answer = service.post("/explain", files={"image": picture(seed % 8)})
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            versions.add(answer.json()["model"]["version"])
        else:
            failures.append(answer.text)

    with repeated(ask, 2, pause=0.05):
        put(repository / "drawn" / "2")
        until(lambda: version(service), "2")
        put(repository / "drawn" / "3", source="zoo", architecture="scenes", weights="random:1")
        until(lambda: service.get("/models/drawn@3").json().get("reason"), NEEDS_TORCH)
        os.kill(service.pids("worker")[-1], signal.SIGKILL)
        until(lambda: len(service.pids("worker")), 2)
        until(lambda: ready(service))
        for number in "32":
            (repository / "drawn" / number).rename(repository.parent / f"gone {number}")
        until(lambda: version(service), "1")
    assert not failures, failures[:3]
    assert versions == {"1", "2"}


def put(folder: Path, **changes: str) -> None:
    """Publish `scenes` as another version, its ``model.yaml`` changed."""
    draft = Path(shutil.copytree(folder.parent / "1", folder.parent.parent.parent / "draft"))
    content = yaml.safe_load((draft / "model.yaml").read_text()) | changes
    (draft / "model.yaml").write_text(yaml.safe_dump(content))
    draft.rename(folder)
