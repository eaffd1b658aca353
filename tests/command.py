"""The command `gradcam` in the tests' own process, which spares the seconds that importing torch takes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from gradcam_service import kinds
from gradcam_service.cli import main


def gradcam(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """Call the command's entry point with settings by their lower-case names: its output and its exit code.

    Plugins are those of the call alone.

    The default model is `scenes`, which has ground truth, unless a test says otherwise.
    """
    command = ["gradcam", *map(str, arguments)]
    settings = {"default_model": "scenes", "device": "cpu"} | settings
    environment = {f"GRADCAM_{name.upper()}": str(value) for name, value in settings.items()}
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, environment),
        patch.dict(kinds._PLUGINS, {constant: {**files} for constant, files in kinds._PLUGINS.items()}, clear=True),
        patch.object(sys, "argv", command),
        redirect_stdout(output),
        redirect_stderr(errors),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())
