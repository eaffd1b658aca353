"""Colormaps as tables of 256 colours."""

from __future__ import annotations

import cmap
import numpy as np
from numpy.typing import NDArray

COLORMAPS = ("turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray")


def _table(name: str) -> NDArray[np.uint8]:
    colors: NDArray[np.float64] = cmap.Colormap(name).lut(256)[:, :3]
    levels = np.rint(colors * 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels


_TABLES = {name: _table(name) for name in COLORMAPS}  # now, so that the first caller doesn't wait for it


def table(name: str) -> NDArray[np.uint8]:
    """The colours of levels 0 to 255 as a read-only uint8 array of shape (256, 3), RGB.

    Args:
        name: one of `COLORMAPS`.

    Raises:
        ValueError: there is no colormap of that name.
    """
    if name not in _TABLES:
        raise ValueError(f"No colormap is named {name!r}; use one of {', '.join(COLORMAPS)}.")
    return _TABLES[name]
