"""An operator's own code: ``package.module:factory``, imported from one folder and nowhere else."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

from torch import nn

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import Built, own_labels, own_preprocess, with_weights
from gradcam_service.registry.spec import Spec


def build(spec: Spec, folder: Path, python_path: Path | None) -> Built:
    """Call the operator's factory, and load weights into what it returns where the spec names any.

    Raises:
        ModelFailed: code is not allowed, is not there, fails, or makes no module.
    """
    if python_path is None:
        raise ModelFailed("source python is off; set GRADCAM_PYTHON_PATH to the folder with the code that may run")
    assert spec.architecture is not None

    def architecture() -> nn.Module:
        return _module(str(spec.architecture), python_path)

    module = architecture() if spec.weights is None else with_weights(spec, folder, architecture)
    return Built(module, own_labels(spec, folder) or [], own_preprocess(spec))


def _module(reference: str, root: Path) -> nn.Module:
    name, _, factory = reference.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", reference):
        raise ModelFailed(f"architecture {reference!r} must be package.module:factory")
    if str(root) not in sys.path:
        sys.path.append(str(root))  # last, so that it shadows nothing
    importlib.invalidate_caches()
    try:
        code = importlib.import_module(name)
    except ImportError as error:
        raise ModelFailed(f"{name} can't be imported from {root}: {error}") from error
    origin = Path(code.__file__ or "").resolve()
    if not origin.is_relative_to(root.resolve()):
        raise ModelFailed(f"{name} is not in {root} but {origin}; only code in that folder may run")
    made = getattr(code, factory, None)
    if not callable(made):
        raise ModelFailed(f"{name} has no function {factory!r}")
    module = made()
    if not isinstance(module, nn.Module):
        raise ModelFailed(f"{reference} returned {type(module).__name__}, not a torch.nn.Module")
    return module
