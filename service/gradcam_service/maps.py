"""Kinds of maps by what their values mean, on which what explains and what draws agree. Torch-free."""

from __future__ import annotations

from typing import Literal, TypeAlias

MapKind: TypeAlias = Literal["unsigned", "signed", "signed_colour"]
"""(h, w): evidence from 0 on, or for and against, about 0. (H, W, C): the latter for each band of the input."""
