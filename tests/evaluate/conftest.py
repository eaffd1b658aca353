"""A model that is evaluated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gradcam_service.registry.repository import EMBEDDED


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model scenes, named still, on eager PyTorch, where what is computed depends on no stopwatch."""
    repository = tmp_path_factory.mktemp("models")
    shutil.copytree(EMBEDDED / "scenes", repository / "still")
    described = repository / "still" / "1" / "model.yaml"
    described.write_text(described.read_text() + "runtime: eager\n")
    return repository
