"""A map laid on a canvas: the original picture, the model's input, or the map's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_service.images.geometry import PreparedImage, Region, fit
from gradcam_service.images.scale import own_high, plane
from gradcam_service.maps import MapKind

Size: TypeAlias = Literal["image", "input", "map"]
Box: TypeAlias = tuple[int, int, int, int]  # x0, y0, x1, y1; x1 and y1 exclusive

_ZERO = 128  # the level of 0 in a signed map


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """A map upsampled and put on its scale, on its canvas.

    Attributes:
        levels: the canvas's size; mode L, of signed colours mode RGB. Unsigned maps: 0 is ``low`` and what lies outside
            the map, 255 is ``high``. Signed ones: 128 is zero and what lies outside, 1 is ``low``, 255 is ``high``.
        box: the canvas pixels (x0, y0, x1, y1; x1 and y1 exclusive) that the map covers.
        kind: what the map means.
        low: the value of the lowest level, in the map's units; of a signed map −``high``.
        high: the value of the highest level; what lies beyond is drawn as if it were this.
    """

    levels: Image.Image
    box: Box
    kind: MapKind
    low: float
    high: float


def backdrop(image: Image.Image, prepared: PreparedImage, *, size: Size = "image", max_side: int = 1024) -> Image.Image:
    """What an overlay is drawn on: all that needs to be kept of ``image`` while the model works. Mode RGB.

    With size "image" the original, reduced to fit into ``max_side``; else the very pixels that the model sees.
    """
    if size != "image":
        return Image.fromarray(prepared.pixels)
    reduced = fit(image.size, max_side)
    if reduced == image.size:
        return image
    return image.resize(reduced, Image.Resampling.BILINEAR, reducing_gap=1.5)  # 12 megapixels: 24 ms, not 36


def place(
    cam: NDArray[np.float32],
    prepared: PreparedImage,
    *,
    kind: MapKind = "unsigned",
    high: float | None = None,
    size: Size = "image",
    max_side: int = 1024,
) -> Heat:
    """``cam`` upsampled onto a canvas and put on a scale.

    Without ``high``, an unsigned map is normalised by its own range on the canvas, from the lowest 0 to the highest
    255. The range is that of all the model saw, padding too, so that a picture stays cold if the model looked beside
    it. A pixel belongs to the map if its centre lies in the region of what the model saw.

    Args:
        cam: (h, w) or, one value for each band of the input, (H, W, C) float32, finite, of any scale. An unsigned map
            that is constant gives level 0 everywhere.
        prepared: what the model saw.
        kind: what the map means.
        high: the value of the highest level; 0 (signed: −``high``) is then the lowest. Default: the map's own.
        size: the canvas: "image", the original's shape; "input", the model's input; "map", h×w.
        max_side: with size "image", the longest side of the canvas, which is never larger than the original.
    """
    canvas, region, box = _canvas(cam.shape[:2], prepared, size, max_side)
    if kind == "unsigned":
        levels, low, high = _stretched(plane(cam, kind), region, box, high)
        return Heat(*_pasted(levels, canvas, box, 0), kind, low, high)
    high = own_high(cam, kind) if high is None else high
    bands = [cam[:, :, band] for band in range(3)] if kind == "signed_colour" else [plane(cam, kind)]
    drawn = [_centred(np.ascontiguousarray(band), region, box, high) for band in bands]
    levels = drawn[0] if len(drawn) == 1 else Image.merge("RGB", drawn)
    return Heat(*_pasted(levels, canvas, box, _ZERO), kind, -high, high)


def _canvas(
    grid: tuple[int, ...], prepared: PreparedImage, size: Size, max_side: int
) -> tuple[tuple[int, int], Region, Box]:
    """The canvas's (width, height), where on it the map lies, and the pixels whose centres lie there."""
    if size == "image":
        canvas = fit(prepared.image_size, max_side)
        region = prepared.region.scaled(canvas[0] / prepared.image_size[0], canvas[1] / prepared.image_size[1])
    else:
        canvas = prepared.size if size == "input" else (grid[1], grid[0])
        region = Region(0, 0, *canvas)
    x0, x1 = _pixels(region.x0, region.x1)
    y0, y1 = _pixels(region.y0, region.y1)
    return canvas, region, (x0, y0, x1, y1)


def _pasted(part: Image.Image, canvas: tuple[int, int], box: Box, outside: int) -> tuple[Image.Image, Box]:
    """``part`` at its place on the canvas, level ``outside`` around it, and the canvas's pixels that it covers."""
    if box == (0, 0, *canvas):
        return part, box
    whole = Image.new(part.mode, canvas, outside if part.mode == "L" else (outside,) * 3)
    whole.paste(part, box[:2])
    return whole, (max(box[0], 0), max(box[1], 0), min(box[2], canvas[0]), min(box[3], canvas[1]))


def _stretched(
    cam: NDArray[np.float32], region: Region, box: Box, high: float | None
) -> tuple[Image.Image, float, float]:
    """An unsigned map's levels, and the values of the lowest and the highest."""
    if high is not None:
        heat = upsample(_clipped(cam, high, 0), region, box)
        return heat.point(lambda value: value * 255 + 0.5).convert("L"), 0.0, high
    low, peak = float(cam.min()), float(cam.max())
    heat = upsample(_unit(cam), region, box)
    bottom, top = cast("tuple[float, float]", heat.getextrema())
    return _levels(heat, bottom, top), low + bottom * (peak - low), low + top * (peak - low)


def _centred(cam: NDArray[np.float32], region: Region, box: Box, high: float) -> Image.Image:
    """A signed map's levels, mode L."""
    heat = upsample(_clipped(cam, high, -1), region, box)
    return heat.point(lambda value: value * 127 + (_ZERO + 0.5)).convert("L")


def _clipped(cam: NDArray[np.float32], high: float, lowest: int) -> NDArray[np.float32]:
    """``cam`` in units of ``high``, from ``lowest`` to 1; a map that is nothing but zeros has no unit."""
    return np.clip(cam.astype(np.float64) / (high or 1.0), lowest, 1).astype(np.float32)


def upsample(cam: NDArray[np.float32], region: Region, box: Box) -> Image.Image:
    """``cam`` stretched over ``region`` and sampled at the pixels of ``box``: bilinear, ``align_corners=False``.

    Args:
        cam: (h, w) float32.
        region: where the map lies, in pixels of the canvas; its edges may fall between pixels.
        box: the canvas pixels wanted, at most half a pixel beyond the region.

    Returns:
        An image of mode F, the size of ``box``. Where it is finer than the map, equal to torch's ``interpolate``.
    """
    x = _source(box[0], box[2], region.x0, region.x1, cam.shape[1])
    y = _source(box[1], box[3], region.y0, region.y1, cam.shape[0])
    # The margin repeats the map's edge, as interpolation does anyway, and lets pixels reach half across the border.
    framed = Image.fromarray(np.pad(cam, 1, mode="edge"))
    size = (box[2] - box[0], box[3] - box[1])
    return framed.resize(size, Image.Resampling.BILINEAR, box=(x[0], y[0], x[1], y[1]))


def _source(start: int, stop: int, low: float, high: float, cells: int) -> tuple[float, float]:
    """The interval of the framed map, in its cells, that lies under pixels ``start`` to ``stop``."""
    cells_per_pixel = cells / (high - low)
    first, last = (1 + (pixel - low) * cells_per_pixel for pixel in (start, stop))
    return max(first, 0.0), min(last, cells + 2.0)


def _pixels(low: float, high: float) -> tuple[int, int]:
    """The pixels (first, one past the last) whose centres lie between ``low`` and ``high``; at least one."""
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    return (first, last) if first < last else (math.floor(low), math.floor(low) + 1)


def _unit(cam: NDArray[np.float32]) -> NDArray[np.float32]:
    """``cam`` scaled to the range 0 to 1, so that no map is too faint or too strong for what follows; or all 0."""
    low, high = float(cam.min()), float(cam.max())
    if not low < high:
        return np.zeros_like(cam)
    return ((cam.astype(np.float64) - low) / (high - low)).astype(np.float32)


def _levels(heat: Image.Image, low: float, high: float) -> Image.Image:
    """Mode F, of values from ``low`` to ``high``, to mode L from 0 to 255, rounded."""
    # Pillow's own loops: at 1024×1024 they take a quarter of NumPy's time.
    if not low < high:
        return Image.new("L", heat.size)
    scale = 255 / (high - low)
    offset = 0.5 - low * scale
    return heat.point(lambda value: value * scale + offset).convert("L")
