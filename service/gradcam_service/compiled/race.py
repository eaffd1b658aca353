"""The race of a compiled model's runtimes, in a process of its own: what lost would stay in the worker's memory.

Torch-free.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TypeVar

from gradcam_service.compiled import choice
from gradcam_service.compiled.model import CompiledModel, compilations, load_folder
from gradcam_service.errors import ModelFailed
from gradcam_service.registry import apart, cache
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.runtime import _threads

Model = TypeVar("Model", bound=CompiledModel)


def racing(model: Model, surroundings: Surroundings | None) -> Model:
    """The model, whose runtimes a process races, where there are surroundings for one and more than one way."""
    if surroundings is None or (model.spec.runtime != "auto" and surroundings.precision == "float32"):
        return model
    return replace(model, exporter=Race(ModelFolder(model.spec, model.folder), surroundings))


class Race:
    """Race that a process runs, now or before an earlier start, for the model to take the winner.

    Args:
        folder: of the compiled model.
        surroundings: of the process.
    """

    def __init__(self, folder: ModelFolder, surroundings: Surroundings) -> None:
        self._folder = folder
        self._surroundings = surroundings
        self._tried = False
        self.failure = ""

    def is_ready(self) -> bool:
        """Whether there is nothing to wait for: it was run, or that was tried."""
        return self._tried or self._is_kept()

    def export(self) -> None:
        """Have it run if it wasn't, when no other is on this machine, which it would be slowed down by.

        Raises:
            OSError: the process can't be started.
        """
        self._tried = True
        with cache.alone("race"):
            if not self._is_kept():
                try:
                    apart.run("race", self._folder, "", self._surroundings)
                except ModelFailed as error:
                    self.failure = error.detail

    def _is_kept(self) -> bool:
        before = choice.read(compilations(self._folder.path))
        return before is not None and before.asked == choice.asked(self._folder.spec, self._surroundings.precision)


def keep_choice(folder: ModelFolder, surroundings: Surroundings) -> None:
    """Race the runtimes of a compiled model, and keep which was the fastest; see `CompiledModel.accelerated`.

    Raises:
        ModelFailed: it can't be opened.
    """
    _threads.choose(surroundings.threads)
    with cache.holding():
        load_folder(folder, sys.maxsize).accelerated(surroundings.precision, 0)
