"""Names of the package efficientnet-pytorch, in which many EfficientNets are published, translated to timm's.

https://github.com/lukemelas/EfficientNet-PyTorch counts blocks through, timm by stages; a first block without expansion
has one convolution and one batch norm less, so that its others are called otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_EXPANDING = _SQUEEZE | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = _SQUEEZE | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def timm_names(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Rename the tensors of an EfficientNet of efficientnet-pytorch as timm calls them.

    Args:
        state: a state dict; one that is of something else comes back as it is.
        wanted: the names in timm's network, which say how its stages divide the blocks.
    """
    if "_conv_stem.weight" not in state or "conv_stem.weight" not in wanted:
        return dict(state)
    places = sorted({(int(found[1]), int(found[2])) for name in wanted if (found := _TIMMS.match(name))})
    return {_renamed(name, state, places): tensor for name, tensor in state.items()}


_TIMMS = re.compile(r"blocks\.(\d+)\.(\d+)\.")
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_REST = re.compile(r"(\w+)\.(\w+)")


def _renamed(name: str, state: Mapping[str, Tensor], places: list[tuple[int, int]]) -> str:
    """The name in timm; one that no rule knows stays, so that loading it says that it doesn't fit."""
    if found := _BLOCK.fullmatch(name):
        number, part, tensor = int(found[1]), found[2], found[3]
        parts = _EXPANDING if f"_blocks.{number}._expand_conv.weight" in state else _SEPARABLE
        if part in parts and number < len(places):
            stage, block = places[number]
            return f"blocks.{stage}.{block}.{parts[part]}.{tensor}"
    elif (found := _REST.fullmatch(name)) and found[1] in _OUTSIDE:
        return f"{_OUTSIDE[found[1]]}.{found[2]}"
    return name
