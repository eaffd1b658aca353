"""The command `gradcam` in the tests' own process, which spares the seconds that importing torch takes.

The embedded models, which no test changes, are loaded once.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from unittest.mock import patch

import torch

from gradcam_service import kinds, local
from gradcam_service.cli import main
from gradcam_service.registry.loading import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry
from gradcam_service.registry.served import ServedModel
from gradcam_service.settings import Settings


def gradcam(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """Call the command's entry point with settings by their lower-case names: its output and its exit code.

    Plugins are those of the call alone.

    The default model is `scenes`, which has ground truth, unless a test says otherwise.
    """
    command = ["gradcam", *map(str, arguments)]
    settings = {"default_model": "scenes", "device": "cpu"} | settings
    environment = {f"GRADCAM_{name.upper()}": str(value) for name, value in settings.items()}
    output, errors, code = io.StringIO(), io.StringIO(), 0
    threads = torch.get_num_threads()
    with (
        patch.object(local, "load", load if "plugins" in settings else _loaded),
        patch.dict(os.environ, environment),
        patch.dict(kinds._PLUGINS, {constant: {**files} for constant, files in kinds._PLUGINS.items()}, clear=True),
        patch.dict(kinds._CODE),
        patch.object(sys, "argv", command),
        redirect_stdout(output),
        redirect_stderr(errors),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            torch.set_num_threads(threads)
    return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())


def opened(model: str, **settings: object) -> local.Local:
    """A model as the command opens it."""
    threads = torch.get_num_threads()
    try:
        with patch.object(local, "load", _loaded):
            given = {name: str(value) for name, value in ({"device": "cpu"} | settings).items()}
            return local.open_model(model, Settings(**given))
    finally:
        torch.set_num_threads(threads)


def _loaded(entry: Entry, device: str, *more: object, **named: object) -> ServedModel:
    if isinstance(entry.place, LocalPlace) and EMBEDDED in entry.place.path.parents:
        return embedded(entry, device)
    return load(entry, device, *more, **named)  # type: ignore[arg-type]


@cache
def embedded(entry: Entry, device: str) -> ServedModel:
    """An embedded model, as it was when it was first asked for; `cache_clear` has it loaded anew."""
    return load(entry, device)
