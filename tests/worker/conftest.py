"""A service with models that fail as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from live import GRADCAM, Service, running_eagerly, until

from . import answering, faulty


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code and the models of `faults` are."""
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="package")
def faults(folder: Path) -> Iterator[Service]:
    """A service with the models of `faulty` and `answering`."""
    settings = faulty.write(folder)
    answering.write(folder)
    with running_eagerly(**settings) as service:
        yield service


@pytest.fixture
def start_faulty() -> Callable[[Path], AbstractContextManager[Service]]:
    """Starts a service with the model of `faulty`, written to a folder."""
    return lambda folder: running_eagerly(**faulty.write(folder))


@pytest.fixture
def program() -> list[str]:
    """The command that starts a service."""
    return [str(GRADCAM), "serve"]


@pytest.fixture
def busy(folder: Path, faults: Service) -> Iterator[Callable[[], None]]:
    """While the test runs the device is busy with a job, until what this returns is called."""
    file = folder / "code" / "busy"
    with ThreadPoolExecutor(1) as thread:
        job = thread.submit(faulty.ask, faults, [faulty.BUSY])
        until(file.exists)

        def end() -> None:
            file.unlink()
            assert faulty.codes(job.result()) == ["ok"]

        yield end
        file.unlink(missing_ok=True)
