"""Colormaps as tables of 256 colours."""

from __future__ import annotations

import cmap
import numpy as np
from numpy.typing import NDArray

from gradcam_service.images.scale import MapKind

COLORMAPS = ("turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray", "coolwarm", "bwr", "berlin")
"""The last three diverge from a neutral middle."""


def default_colormap(kind: MapKind) -> str:
    """The name of the colormap for maps of that kind: from cold to hot, or from against through neutral to for."""
    return "turbo" if kind == "unsigned" else "coolwarm"


def _colours(name: str, count: int) -> NDArray[np.uint8]:
    lut: NDArray[np.float64] = cmap.Colormap(f"matplotlib:{name}" if name == "coolwarm" else name).lut(count)[:, :3]
    return np.rint(lut * 255).astype(np.uint8)


def _tables(name: str) -> dict[bool, NDArray[np.uint8]]:
    """By whether the map is signed."""
    centred = _colours(name, 255)
    tables = {False: _colours(name, 256), True: np.concatenate([centred[:1], centred])}
    for table in tables.values():
        table.flags.writeable = False
    return tables


_TABLES = {name: _tables(name) for name in COLORMAPS}  # now, so that the first caller doesn't wait for it


def table(name: str, kind: MapKind = "unsigned") -> NDArray[np.uint8]:
    """The colours of a map's levels 0 to 255 as a read-only uint8 array of shape (256, 3), RGB.

    Of a signed map, level 128 has the very middle of the colormap, 1 and 255 its ends.

    Args:
        name: one of `COLORMAPS`.
        kind: what the map means.

    Raises:
        ValueError: there is no colormap of that name.
    """
    if name not in _TABLES:
        raise ValueError(f"No colormap is named {name!r}; use one of {', '.join(COLORMAPS)}.")
    return _TABLES[name][kind != "unsigned"]
