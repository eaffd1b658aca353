"""The real clients of other inference servers, each in an environment and a process of its own.

They can't share a process: each registers messages of the same names with protobuf. See README.md beside this.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import PATIENCE, Service
from repository import ROOT

HERE = Path(__file__).parent
CLIENTS = ROOT / "build" / "dialects"


@dataclass(frozen=True)
class Told:
    """What a client's script tells of what it was answered.

    Attributes:
        said: what it printed, as JSON.
        arrays: what it saved, by name.
    """

    said: Any
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


Ask = Callable[..., Told]
"""Path of a script in this folder, and its arguments, which are written as text → what it tells."""


def told_by(script: str, *arguments: object, folder: Path) -> Told:
    """Run a script as its client's own environment does, in an empty folder.

    Args:
        script: ``client/name.py`` in this folder.
        arguments: are passed on as text.
        folder: where it runs.
    """
    path = HERE / script
    python = CLIENTS / path.parent.name / "bin" / "python"
    assert python.exists(), f"{python} is not there; make test-dialects makes it"
    command = [python, path, *map(str, arguments)]
    here = os.environ | {"no_proxy": "127.0.0.1"}  # gRPC would go to this machine by way of https_proxy
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{script} failed:\n{done.stdout}{done.stderr}"
    saved = folder / "arrays.npz"
    return Told(json.loads(done.stdout.splitlines()[-1]), dict(np.load(saved)) if saved.exists() else {})


@pytest.fixture
def ask(service: Service, tmp_path: Path) -> Ask:
    """Runs a client's script against the service that all tests share; its address is the first argument."""
    calls = iter(range(sys.maxsize))

    def asked(script: str, *arguments: object) -> Told:
        folder = tmp_path / str(next(calls))
        folder.mkdir()
        return told_by(script, service.url, *arguments, folder=folder)

    return asked
