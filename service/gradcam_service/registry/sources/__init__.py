"""Sources, which build models: one file for each value of ``source`` in ``model.yaml``.

Each declares a `Source` as ``SOURCE``. Torch-free, and so are the files until they build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcam_service.kinds import Kinds

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder


@dataclass(frozen=True)
class Source:
    """Builds models, and says what of ``model.yaml`` it needs for that.

    Attributes:
        build: makes the model that a folder describes. What it raises, of whatever class, is told as `ModelFailed`.
        architecture: whether ``model.yaml`` names one; else the weights must be a file, which holds it.
        weights: whether ``model.yaml`` must name weights.
        options: whether ``model.yaml`` may have options for the builder of the architecture.
        extra: of this package, which installs what ``build`` imports; empty where nothing more is needed.
    """

    build: Callable[[ModelFolder], Built]
    architecture: bool = True
    weights: bool = True
    options: bool = False
    extra: str = ""


SOURCES: Kinds[Source] = Kinds("gradcam_service.registry.sources", "SOURCE")
