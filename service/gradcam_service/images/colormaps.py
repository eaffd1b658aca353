"""Colormaps as tables of 256 colours."""

from __future__ import annotations

import cmap
import numpy as np
from numpy.typing import NDArray

from gradcam_service.maps import MapKind

COLORMAPS = ("turbo", "viridis", "inferno", "magma", "plasma", "cividis", "jet", "gray", "coolwarm", "berlin")
"""The last two diverge from a neutral middle, a light and a dark one."""


def default_colormap(kind: MapKind) -> str:
    """The name of the colormap for maps of that kind: from cold to hot, or from against through neutral to for."""
    return "turbo" if kind == "unsigned" else "coolwarm"


def _tables(name: str) -> dict[bool, NDArray[np.uint8]]:
    """The colours of levels by whether the map is signed."""
    lut: NDArray[np.float64] = cmap.Colormap(f"matplotlib:{name}" if name == "coolwarm" else name).lut(256)[:, :3]
    colours = np.rint(lut * 255).astype(np.uint8)
    places = np.maximum(np.arange(256) - 1, 0) * 255 / 254
    below = np.minimum(places.astype(int), 254)
    share = (places - below)[:, None]
    centred = np.rint(colours[below] * (1 - share) + colours[below + 1] * share).astype(np.uint8)
    tables = {False: colours, True: centred}
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
