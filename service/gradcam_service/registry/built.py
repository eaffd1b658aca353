"""The module that a source has built, with its labels and preprocessing, and the weights that fill it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gradcam_service.errors import ModelFailed, in_one_line
from gradcam_service.registry.checkpoint import read_tensors, some
from gradcam_service.registry.fit import Misfit, fit
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.labels import other_number
from gradcam_service.registry.sources import SOURCES
from gradcam_service.registry.spec import Preprocess
from gradcam_service.registry.weights import weights_file

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """A built model: its module, ready to be traced, and what belongs to it.

    Attributes:
        module: maps (N, C, H, W) float32 to scores (N, classes).
        labels: one for each class; empty where nothing names the classes.
        preprocess: from a picture to the module's input.
        content: hex SHA-256 of what else than weights and labels decides an answer: a file that holds the architecture,
            or an operator's code.
    """

    module: nn.Module
    labels: list[str]
    preprocess: Preprocess
    content: str = ""


def first_channels(module: nn.Module) -> int | None:
    """How many channels the first convolution of a module takes; None where it has no convolutions."""
    return next((part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d)), None)


def takes_channels(taken: int, given: int) -> str:
    """Say that a model takes another number of channels than it would be given, and what would work."""
    name = {1: "gray", 3: "rgb"}.get(taken, taken)
    channels = "1 channel" if taken == 1 else f"{taken} channels"
    return (
        f"the model takes {channels}, but would be given {given}; in model.yaml say input: {{channels: {name}}}, "
        "and as many values of mean and std"
    )


def build(folder: ModelFolder) -> Built:
    """Have the source that ``model.yaml`` names build its model.

    Raises:
        ModelFailed: saying what is missing or wrong.
        Exception: whatever the builder of the architecture does.
    """
    source = SOURCES[folder.spec.source]
    try:
        return source.build(folder)
    except ModuleNotFoundError as error:
        if not source.extra:
            raise
        package = f"gradcam-service[{source.extra}]"
        raise ModelFailed(f"source {folder.spec.source} needs the package {error.name}; install {package}") from error


def with_weights(folder: ModelFolder, architecture: Callable[[], nn.Module]) -> nn.Module:
    """Build a module with the weights that ``model.yaml`` names: ``random:<seed>``, a file or a URL.

    Random weights are those of the builder's own initialisation after ``torch.manual_seed``.

    Raises:
        ModelFailed: the weights can't be had, or don't fit.
    """
    if match := re.fullmatch(r"random:(\d+)", str(folder.spec.weights)):
        if int(match[1]) >= 2**64:
            raise ModelFailed(f"weights {folder.spec.weights}: a seed is below 2^64")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(match[1]))
            return architecture()
    path = weights_file(folder)
    return filled(architecture(), path, folder)


def filled(module: nn.Module, path: Path, folder: ModelFolder) -> nn.Module:
    """Load the weights in a file, whose digest has been checked, into a module.

    Raises:
        ModelFailed: there are none in it, or they don't fit.
    """
    network = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
    try:
        found = fit(network, read_tensors(path))
    except Misfit as error:
        raise ModelFailed(_with_remedy(error, folder)) from error
    if found.name or found.left:
        fields = {"weights": folder.spec.weights, "taken": found.name or "all", "left": some(found.left, 5)}
        log.info("weights are a part of their file", extra={"fields": fields})
    # What isn't there answers nobody, and must be the same at each load: counters, and heads that are no numbers, so
    # that the checks of a load see it where one answers nevertheless.
    unused = {name: _unset(tensor) for name, tensor in network.items() if name not in found.state}
    try:
        module.load_state_dict(unused | found.state, strict=False)
    except RuntimeError as error:  # of tensors that can't be copied, such as quantised ones
        raise ModelFailed(f"weights {folder.spec.weights} can't be loaded: {in_one_line(error)}") from error
    return module


def _unset(tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else torch.zeros_like(tensor)


def _with_remedy(error: Misfit, folder: ModelFolder) -> str:
    spec, labels = folder.spec, folder.labels()
    reason = f"weights {spec.weights} don't fit {spec.architecture}: {error}"
    if error.classes is None:
        return reason
    if labels and len(labels) == error.classes:  # then the number of labels isn't what the builder heeds
        return f"{reason}; have {spec.architecture} build {error.classes}"
    remedy = f"name {error.classes} label{'s' if error.classes > 1 else ''}"
    return f"{other_number(spec, error.classes, len(labels))}; {remedy} ({reason})" if labels else f"{reason}; {remedy}"
