"""What every source makes, and what most sources need to make it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.registry.weights import local_file, read_state


@dataclass(frozen=True)
class Built:
    """A model ready to be cut.

    Attributes:
        module: maps (N, C, H, W) float32 to scores (N, classes).
        labels: one for each class; empty where nothing names the classes.
        preprocess: from a picture to the module's input.
        content: hex SHA-256 of what else than weights and labels decides an answer: a file that holds the architecture.
    """

    module: nn.Module
    labels: list[str]
    preprocess: Preprocess
    content: str = ""


def with_weights(spec: Spec, folder: Path, architecture: Callable[[], nn.Module]) -> nn.Module:
    """A module from its builder, with the weights that ``spec`` names: ``random:<seed>``, a file or a URL.

    Random weights are those of the builder's own initialisation after ``torch.manual_seed``.

    Raises:
        ModelFailed: the weights can't be had, or don't fit.
    """
    assert spec.weights is not None
    if match := re.fullmatch(r"random:(\d+)", spec.weights):
        if int(match[1]) >= 2**64:
            raise ModelFailed(f"weights {spec.weights}: a seed is below 2^64")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(match[1]))
            return architecture()
    path = local_file(spec, folder)
    return filled(architecture(), path, spec)


def filled(module: nn.Module, path: Path, spec: Spec) -> nn.Module:
    """The module with the state dict in a file, whose digest has been checked.

    Raises:
        ModelFailed: it is no state dict, or doesn't fit.
    """
    try:
        module.load_state_dict(read_state(path))
    except RuntimeError as error:
        shown = " ".join(str(error).split())
        raise ModelFailed(f"weights {spec.weights} don't fit {spec.architecture}: {shown}") from error
    return module


def own_labels(spec: Spec, folder: Path) -> list[str] | None:
    """The lines of the labels file that ``spec`` names, None where it names none.

    Raises:
        ModelFailed: it can't be read.
    """
    if spec.labels is None:
        return None
    try:
        return (folder / spec.labels).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelFailed(f"labels {spec.labels} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelFailed(f"labels {spec.labels} are not UTF-8: {error}") from error


def own_preprocess(spec: Spec) -> Preprocess:
    """The preprocessing that ``spec`` says.

    Raises:
        ModelFailed: it says none.
    """
    if spec.preprocess is None:
        raise ModelFailed("model.yaml must say how to preprocess: this source comes without that")
    return spec.preprocess
