"""What ``tests/worker/test_versions.py`` has happen to versions, where they are compiled and no torch is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from worker.test_versions import (  # noqa: F401
    SETTINGS,
    Repository,
    live,
    put,
    repository,
    test_a_killed_worker_finds_its_way_back_past_a_version_that_fails,
    test_a_new_version_takes_over_and_the_old_one_is_unloaded,
    test_an_alias_moves_when_the_version_it_names_can_answer_and_back,
    test_models_loaded_and_unloaded_leave_no_memory_behind,
    test_new_content_of_a_version_takes_over_unless_it_fails,
    test_no_request_fails_whatever_happens_to_versions_and_each_says_who_computed_it,
    test_versions_that_fail_replace_nothing,
    test_what_can_not_be_read_changes_nothing,
)

from compiled.test_compiled import ROOT
from gradcam_service.compiled.write import compile_model
from gradcam_service.registry import loader
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from live import Service
from torchless import running_torchless

pytestmark = pytest.mark.exhaustive


@cache
def compiled(seed: int) -> Path:
    """The folder of a model with the weights of a seed, compiled."""
    root = ROOT / "versions" / str(seed)
    root.mkdir(parents=True)
    source = put(root / "torch", "1", seed)
    model = loader.load(Entry("demo", "1", LocalPlace(source)), torch.device("cpu"))
    compile_model(model, ModelFolder(model.spec, source), f"random:{seed}", (), root / "compiled")
    return root / "compiled"


class Compiled(Repository):
    """Where compiled versions of `demo` are published."""

    def put(self, version: str, seed: int, more: str = "", runtime: str = "eager") -> None:
        """Publish the compiled model of a seed, on another runtime than `eager`."""
        draft = self.draft(seed, more)
        self.folder(version).parent.mkdir(parents=True, exist_ok=True)
        draft.rename(self.folder(version))

    def rewrite(self, version: str, seed: int, more: str = "", runtime: str = "eager") -> None:
        """Put the files of another seed's in the place of a version's, one after the other."""
        draft = self.draft(seed, more)
        for file in sorted(draft.iterdir()):
            file.rename(self.folder(version) / file.name)
        draft.rmdir()

    def draft(self, seed: int, more: str) -> Path:
        """A copy of the compiled model of a seed, with these lines more in its ``model.yaml``."""
        draft = Path(shutil.copytree(compiled(seed), self.path.parent / "draft"))
        with (draft / "model.yaml").open("a") as file:
            file.write(more)
        return draft


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The repository of `serving`."""
    root = Compiled(tmp_path_factory.mktemp("repository") / "models")
    root.put("1", 1)
    return root


@pytest.fixture(scope="module")
def serving(root: Repository, torchless: Path) -> Iterator[Service]:
    with running_torchless(torchless, model_repository=root.path, **SETTINGS) as started:
        yield started
