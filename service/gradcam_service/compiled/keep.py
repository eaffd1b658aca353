"""Compiles a model that the service has loaded, and keeps that in the cache as its compiled form."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gradcam_service.compiled.form import FORMS, key_of
from gradcam_service.compiled.write import compile_model
from gradcam_service.errors import UnsupportedMethod
from gradcam_service.registry import kept
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry


def keep_form(folder: ModelFolder, key: str) -> None:
    """Compile a model at its default layer and keep that for the next start, unless its files have changed meanwhile.

    Where it can't be compiled, that is kept, so that it isn't tried again.

    Args:
        folder: of the model.
        key: of its form.

    Raises:
        ModelFailed: it can't be loaded.
    """
    entry = Entry(folder.path.parent.name, folder.path.name, LocalPlace(folder.path))
    model = load(entry, torch.device("cpu"))
    with TemporaryDirectory(prefix="gradcam-") as place:
        made = Path(place) / entry.name / entry.version
        try:
            compile_model(model, folder, entry.key, (), made)
            files = {path.name: path.read_bytes() for path in made.iterdir()}
        except UnsupportedMethod as error:
            files = {"refused.txt": error.detail.encode()}
    if key_of(folder) == key:
        kept.keep(FORMS, key, files)
