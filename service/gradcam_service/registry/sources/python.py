"""Builds with an operator's own code: ``package.module:factory``, imported from one folder and nowhere else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed, in_one_line
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from torch import nn

    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder
    from gradcam_service.registry.operator_code import OperatorCode


def _build(folder: ModelFolder) -> Built:
    """Call the operator's factory, and load weights into what it returns where ``model.yaml`` names any."""
    from gradcam_service.registry.built import Built, with_weights
    from gradcam_service.registry.operator_code import OperatorCode

    if folder.python_path is None:
        raise ModelFailed("source python is off; set GRADCAM_PYTHON_PATH to the folder with the code that may run")
    code = OperatorCode(folder.python_path)

    def architecture() -> nn.Module:
        return _made(folder, code)

    module = architecture() if folder.spec.weights is None else with_weights(folder, architecture)
    return Built(module, folder.labels() or [], folder.preprocess(), code.digest)


def _made(folder: ModelFolder, code: OperatorCode) -> nn.Module:
    from torch import nn

    reference = str(folder.spec.architecture)
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", reference):
        raise ModelFailed(f"architecture {reference!r} must be package.module:factory")
    name, _, factory = reference.partition(":")
    made = getattr(code.imported(name), factory, None)
    if not callable(made):
        meant = did_you_mean(factory, vars(code.imported(name)))
        raise ModelFailed(f"{name} has no function {factory!r}{meant}")
    if not code.defines(made):  # else os.system would be one wherever a module of the operator's imports it
        raise ModelFailed(f"{factory} is imported by {name}; define a function there that calls it")
    try:
        module = made(**folder.spec.options)
    except (Exception, SystemExit) as error:  # whatever an operator's code does
        call = f"{reference} with {', '.join(folder.spec.options) or 'no'} options"
        raise ModelFailed(f"{call} raised {in_one_line(error)}; it must return a torch.nn.Module") from error
    if not isinstance(module, nn.Module):
        raise ModelFailed(f"{reference} returned {type(module).__name__}, not a torch.nn.Module")
    return module


SOURCE = Source(_build, weights=False, options=True, output=True)
