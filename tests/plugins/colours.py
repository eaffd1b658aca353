"""A source of models that need no training: each class is a colour, and its score how much of it a picture has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder

_COLOURS = ("red", "green", "blue")


def _build(folder: ModelFolder) -> Built:
    """Build the classes that ``architecture`` names, as ``red+blue``."""
    import torch  # here, as every process imports this file, and most need no torch
    from torch import nn

    from gradcam_service.registry.built import Built

    names = str(folder.spec.architecture).split("+")
    if strange := [name for name in names if name not in _COLOURS]:
        raise ModelFailed(f"there is no colour {strange[0]!r}; there are {', '.join(_COLOURS)}")
    channels = nn.Conv2d(3, len(names), 1, bias=False)
    channels.weight.data = torch.eye(3)[[_COLOURS.index(name) for name in names], :, None, None]
    module = nn.Sequential(channels, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Built(module, names, folder.preprocess())


SOURCE = Source(_build, weights=False)
