"""Sources, which build models: one file for each value of ``source`` in ``model.yaml``.

Each declares a `Source` as ``SOURCE``. Torch-free, and so are the files until they build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcam_service.kinds import Kinds

if TYPE_CHECKING:
    from gradcam_service.registry.apart import Surroundings
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder
    from gradcam_service.registry.repository import Entry
    from gradcam_service.registry.served import ServedModel


@dataclass(frozen=True)
class Source:
    """Builds models, and says what of ``model.yaml`` it needs for that.

    Attributes:
        build: makes the model that a folder describes. What it raises, of whatever class, is told as `ModelFailed`.
        architecture: whether ``model.yaml`` names one; else the model's files hold it. None where it may.
        weights: whether ``model.yaml`` must name weights.
        own_weights: what the card says of the weights where it names none.
        output: whether ``model.yaml`` may name the output that has the scores.
        options: whether ``model.yaml`` may have options for the builder of the architecture.
        reproducible: whether ``model.yaml``, the files beside it and what is installed decide what it builds, so that
            what is made of it may be kept for the next start.
        awaits: returns when what it needs beside files is there, such as another server; None where it needs nothing.
        opens: opens a version that needs no torch, in the place of ``build``, given how many pixels its sample may
            have and of what a process of its own would race its runtimes; None where torch builds it.
        extra: of this package, which installs what ``build`` imports; empty where nothing more is needed.
    """

    build: Callable[[ModelFolder], Built]
    architecture: bool | None = True
    weights: bool = True
    own_weights: str = "of the factory"
    output: bool = False
    options: bool = False
    reproducible: bool = False
    awaits: Callable[[ModelFolder], None] | None = None
    opens: Callable[[Entry, int, Surroundings | None], ServedModel] | None = None
    extra: str = ""


SOURCES: Kinds[Source] = Kinds("gradcam_service.registry.sources", "SOURCE")
