"""A running service for every test that speaks HTTP, in an environment that is the same on every machine."""

from __future__ import annotations

import atexit
import copy
import functools
import gc
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

from live import ADMIN_TOKEN, Service, running_eagerly
from torchless import environment

TESTS = Path(__file__).parent
MODEL_YAML = """\
source: torchvision
architecture: {architecture}
weights: random:0
runtime: eager
"""
SMALL = """\
source: zoo
architecture: scenes
weights: random:0
labels: [a, b, c, d, e, f, g, h, i, j, k, l]
preprocess: {pad: 128, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
runtime: eager
"""
UNREACHABLE = f"""\
source: torchvision
architecture: resnet50
weights: https://download.pytorch.org/models/resnet50-11ad3fa6.pth
sha256: {"11ad3fa6":0<64}
load: demand
"""


LONGEST = (
    *("web", "api", "explain", "methods", "compiled", "worker", "registry", "test_export.py", "deploy"),
    *("test_export_program.py", "runtime", "fuzz", "extending", "zoo"),
)
"""Rooms and files that take longest; all others take seconds."""
TOGETHER = (
    (
        *("tests/explain/", "tests/methods/", "tests/runtime/test_backbones.py"),
        *("tests/registry/test_onnx.py", "tests/registry/test_export_source.py"),
    ),
    ("tests/compiled/",),
    ("tests/extending/",),
    ("tests/fuzz/",),
    ("tests/api/",),
    (
        *("tests/web/", "tests/client/", "tests/dialects/"),
        *("tests/test_cli.py", "tests/test_serving.py", "tests/test_stopping.py"),
        *(f"tests/deploy/test_{name}.py" for name in ("image", "kserve", "load")),
        *(f"tests/worker/test_{name}.py" for name in ("fairness", "fault_tolerance", "processes")),
        "tests/worker/test_tasks_under_faults.py",
        *(f"tests/zoo/test_{name}.py" for name in ("figures", "policy_model")),
    ),
)
"""Files that have the same networks traced, or ask the same service: one process runs them all, and has each once.

But for the service that most ask: two processes have one each, since either half takes a quarter of the whole.
"""


class Scheduling(LoadFileScheduling):
    """Has every file run by one process, and those that are `TOGETHER` by the same."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((files[0] for files in TOGETHER if file.startswith(files)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Hand out the tests as `Scheduling` says."""
    return Scheduling(config, log)


OTHERS = re.compile(
    r"GRADCAM_|OTEL_|PROMETHEUS_|AWS_|(MAKE|MFLAGS|GNUMAKE|HOST$|PORT$)|\w*_proxy$"
    r"|PYTHON(DEVMODE|DONTWRITEBYTECODE|OPTIMIZE|SAFEPATH|WARNINGS)|(CLICOLOR|COLUMNS|FORCE_COLOR|NO_COLOR)",
    re.IGNORECASE,
)
"""Variables of whoever runs the tests, which programs heed that these start."""
NOWHERE = "http://127.0.0.1:9"
"""Where nobody listens: that of the port for what is thrown away."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget what the caller's environment tells other programs, and the way to the internet: no test needs it.

    On a machine that has it, weights that tests name would be fetched.
    """
    gc.disable()  # until all tests are collected, which stay
    if hasattr(config, "workerinput"):
        atexit.register(os._exit, 0)  # to take torch apart, a process takes seconds, and all wait for it
        return  # which has the environment of the process that started it
    for name in filter(OTHERS.match, list(os.environ)):
        del os.environ[name]
    caches = TemporaryDirectory(prefix="gradcam-tests-")
    config.add_cleanup(caches.cleanup)
    os.environ |= {"https_proxy": NOWHERE, "XDG_CACHE_HOME": caches.name}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="inject every fault at full length")
    parser.addoption("--fuzz", action="store_true", help="make up thousands of requests and damaged pictures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: of three processes, for two cores, none is busy alone at the end.

    While one waits for a service, the others compute.
    """
    rank = {room: at for at, room in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.relative_to(TESTS).parts[0], len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Have a test and its fixtures draw the same numbers always, whichever tests ran in the process before."""
    import torch  # which the process that hands the tests out needs not

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _economical() -> Iterator[None]:
    """Threads of several test processes that wait for each other would spin; the services in the tests have theirs."""
    import torch

    torch.set_num_threads(1)
    _read_functions_of_onnx_once()
    _list_composite_operators_once()
    gc.freeze()  # what has been imported stays; while networks are traced, it would be looked through again and again
    gc.set_threshold(20_000, 10, 10)  # of the usual 700, looking for garbage takes a tenth of the time of all tests
    gc.enable()
    yield
    gc.unfreeze()


def _read_functions_of_onnx_once() -> None:
    """Spare each export the half second in which torch reads what ONNX has for its operators."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(**opset: int) -> ONNXRegistry:
        registry = copy.copy(read(**opset))
        registry.functions = {operator: [*functions] for operator, functions in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = staticmethod(from_torchlib)  # type: ignore[method-assign, assignment]


def _list_composite_operators_once() -> None:
    """Spare each program that torch decomposes the search through all operators for those made of others."""
    from torch.export import exported_program

    exported_program._collect_all_valid_cia_ops = functools.cache(exported_program._collect_all_valid_cia_ops)


@pytest.fixture(scope="session")
def fuzz(request: pytest.FixtureRequest) -> bool:
    """Whether thousands of cases are made up instead of hundreds."""
    return bool(request.config.getoption("--fuzz"))


@pytest.fixture(scope="session")
def chaos(request: pytest.FixtureRequest) -> bool:
    """Whether faults are injected at full length."""
    return bool(request.config.getoption("--chaos"))


@pytest.fixture(scope="session")
def torchless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has what the slim image has, and no torch."""
    return environment(tmp_path_factory.mktemp("torchless"))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of an operator: resnet18 (global average pooling → linear) and alexnet, seed-0 weights.

    And `small`, which takes least to load again and again.

    Their answers are the same to the last digit always, as they stay on eager PyTorch. The weights of resnet50 are on a
    hub that can't be reached from here.
    """
    root = tmp_path_factory.mktemp("models")
    for architecture in ("resnet18", "alexnet"):
        folder = root / architecture / "1"
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(MODEL_YAML.format(architecture=architecture))
    (root / "resnet18" / "aliases.yaml").write_text("stable: 1\n")
    (root / "small" / "1").mkdir(parents=True)
    (root / "small" / "1" / "model.yaml").write_text(SMALL)
    (root / "resnet50" / "1").mkdir(parents=True)
    (root / "resnet50" / "1" / "model.yaml").write_text(UNREACHABLE)
    return root


@pytest.fixture(scope="session")
def service(repository: Path) -> Iterator[Service]:
    """The service with the embedded models and those of `repository`, two API processes of two threads."""
    settings = {"api_processes": 2, "admin_token": ADMIN_TOKEN, "cpus": 2, "grpc_port": 0}
    with running_eagerly(model_repository=repository, **settings) as started:
        yield started
    died = [record for record in started.records() if record["message"] == "process died"]
    assert not died  # which no request would have noticed
