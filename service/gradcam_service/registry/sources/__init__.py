"""Who builds a model: one module for each value of ``source`` in ``model.yaml``.

A new source is a module here with a function ``build`` and its name in `gradcam_service.registry.spec.Source`.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import Built
from gradcam_service.registry.spec import Spec


def build(spec: Spec, folder: Path, python_path: Path | None = None) -> Built:
    """Build the model that ``folder/model.yaml`` describes.

    Args:
        spec: the file's content.
        folder: holds the files that it names.
        python_path: where the operator's own code may be imported from; None where none may.

    Raises:
        ModelFailed: saying what is missing or wrong.
    """
    try:
        builder = resolve_name(
            f"gradcam_service.registry.sources.{spec.source}"
        )  # imported when it is needed: some are heavy
    except ModuleNotFoundError as error:
        raise ModelFailed(
            f"source {spec.source} needs the package {error.name}; install gradcam-service[{spec.source}]"
        ) from error
    built: Built = builder.build(spec, folder, python_path)
    return built
