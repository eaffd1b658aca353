"""Colormaps as tables of 256 colours."""

from __future__ import annotations

from functools import cache

import cmap
import numpy as np
from numpy.typing import NDArray

COLORMAPS = ("turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray")


@cache
def table(name: str) -> NDArray[np.uint8]:
    """The colours of levels 0 to 255 as a read-only uint8 array of shape (256, 3), RGB.

    Args:
        name: one of `COLORMAPS`.

    Raises:
        ValueError: there is no colormap of that name.
    """
    if name not in COLORMAPS:
        raise ValueError(f"No colormap is named {name!r}; use one of {', '.join(COLORMAPS)}.")
    colors: NDArray[np.float64] = cmap.Colormap(name).lut(256)[:, :3]
    levels = np.rint(colors * 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels
