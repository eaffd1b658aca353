"""Scenes: shapes on a textured, cluttered background, with a mask and a box for each; the same seed, the same scene.

A scene is laid out in units of its longest side and only then drawn, so that a larger ``size`` gives the same picture
at a higher resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gradcam_service.zoo.backgrounds import Pixels, background
from gradcam_service.zoo.shapes import CLASSES, OUTLINES

__all__ = ["CLASSES", "SIZE", "Scene", "SceneObject", "scene"]

SIZE = 128

_SUPERSAMPLING = 4
_GRID = 96  # pixels along the longest side on which the layout measures what hides what
_VISIBLE = 0.6  # of every object, measured coarsely; half of it is promised
_RADIUS = (0.1, 0.25)  # of the circle around an object, in longest sides
_VARIED = 12.0  # how far each channel of an allowed colour may be off
_CONTRAST = 90.0  # Euclidean RGB distance between an object and what it may lie on


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene.

    Attributes:
        label: index into `CLASSES`.
        mask: bool (H, W), the pixels in which this object is visible.
        box: ``(x0, y0, x1, y1)``, tight around the mask; x1 and y1 are exclusive.
        colour: (3,) RGB, 0–255, before shading and noise.
    """

    label: int
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]
    colour: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        objects: from the bottom to the top; no two of one class.
    """

    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True, eq=False)
class _Placed:
    """An object of the layout: its outline in longest sides, its colour (3,) 0–255 and its shading (3,)."""

    label: int
    outline: NDArray[np.float64]
    colour: NDArray[np.float64]
    shading: NDArray[np.float64]


def scene(
    seed: int,
    *,
    objects: int | None = None,
    size: int = SIZE,
    aspect: float = 1.0,
    colours: NDArray[np.float64] | None = None,
) -> Scene:
    """The scene of ``seed``.

    Args:
        seed: any integer from 0.
        objects: how many objects, 0–12; by default 1–4, drawn from the seed.
        size: pixels of the longest side; the picture is otherwise the same.
        aspect: width / height; each aspect is another picture.
        colours: (n, 3) RGB, 0–255, what objects may be coloured like; by default anything.
    """
    layout_rng, back_rng, grain_rng = (np.random.default_rng([seed, stream]) for stream in range(3))
    width, height = max(1, round(size * min(1.0, aspect))), max(1, round(size * min(1.0, 1 / aspect)))
    pixels, palette = background(back_rng, width, height)
    count = int(layout_rng.integers(1, 5))
    extent = min(1.0, aspect), min(1.0, 1 / aspect)
    placed = _layout(layout_rng, count if objects is None else objects, *extent, palette, colours)
    masks = []
    for item in placed:
        masks.append(_draw(item, pixels, size))
        for below in masks[:-1]:
            below &= ~masks[-1]
    image = _grain(grain_rng, pixels)
    shown = tuple(SceneObject(p.label, m, _box(m), p.colour) for p, m in zip(placed, masks, strict=True))
    return Scene(image, shown)


def _layout(
    rng: np.random.Generator,
    count: int,
    width: float,
    height: float,
    palette: NDArray[np.float64],
    allowed: NDArray[np.float64] | None,
) -> list[_Placed]:
    """``count`` objects of different classes that leave enough of each other visible."""
    placed: list[_Placed] = []
    full: list[NDArray[np.bool_]] = []  # what each object would cover were it alone
    shown: list[NDArray[np.bool_]] = []  # what of it is visible
    colours = palette
    for label in rng.permutation(len(CLASSES))[:count]:
        radius = rng.uniform(*_RADIUS) * min(1.0, 1.6 * min(width, height))
        while True:  # ends: the radius shrinks with each attempt until a place is found
            outline = _place(rng, CLASSES[label], radius, width, height)
            cover = np.asarray(_filled(outline * _GRID, round(width * _GRID), round(height * _GRID))) > 0
            if all((s & ~cover).sum() >= _VISIBLE * f.sum() for s, f in zip(shown, full, strict=True)):
                break
            radius *= 0.97
        shown = [*(s & ~cover for s in shown), cover]
        full.append(cover)
        colour = _distinct(_any(rng) if allowed is None else _like(rng, allowed), colours)
        colours = np.concatenate([colours, colour[None]])
        placed.append(_Placed(int(label), outline, colour, rng.normal(0.0, 1.0, 3)))
    return placed


def _place(rng: np.random.Generator, name: str, radius: float, width: float, height: float) -> NDArray[np.float64]:
    """The outline (n, 2) of class ``name``, turned at random and put at random wholly inside the picture."""
    angle = rng.uniform(0.0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    margin = min(radius, width / 2, height / 2)
    centre = rng.uniform((margin, margin), (width - margin, height - margin))
    outline: NDArray[np.float64] = OUTLINES[name] @ turn.T * margin * 0.98 + centre
    return outline


def _any(rng: np.random.Generator) -> NDArray[np.float64]:
    """16 random colours (16, 3), half of them vivid."""
    drawn = rng.uniform(0.0, 255.0, (16, 3))
    drawn[::2] = np.where(drawn[::2] < 128, drawn[::2] * 0.4, 255 - (255 - drawn[::2]) * 0.4)
    return drawn


def _like(rng: np.random.Generator, allowed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each of the colours ``allowed`` (n, 3), a little varied and in random order."""
    return np.clip(rng.permutation(allowed) + rng.uniform(-_VARIED, _VARIED, allowed.shape), 0.0, 255.0)


def _distinct(drawn: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first colour of ``drawn`` (m, 3) that differs enough from all ``others`` (n, 3), else the most different."""
    distance = np.linalg.norm(drawn[:, None] - others[None], axis=2).min(axis=1)
    enough = distance >= _CONTRAST
    chosen: NDArray[np.float64] = drawn[np.argmax(enough) if enough.any() else np.argmax(distance)]
    return chosen


def _filled(corners: NDArray[np.float64], width: int, height: int) -> Image.Image:
    """The polygon of ``corners`` (n, 2), in pixels, as 255 in a picture of zeros."""
    picture = Image.new("L", (width, height))
    # Pillow counts from the middle of the first pixel, the corners are counted from its edge.
    points = [(float(x), float(y)) for x, y in corners - 0.5]
    ImageDraw.Draw(picture).polygon(points, fill=255)
    return picture


def _draw(item: _Placed, pixels: Pixels, size: int) -> NDArray[np.bool_]:
    """Draw ``item`` onto ``pixels`` in place, its edges blended; returns the mask (H, W) of what it covers."""
    height, width = pixels.shape[:2]
    corners = item.outline * size
    left, top = (int(v) for v in np.maximum(np.floor(corners.min(axis=0)), 0))
    right, bottom = (int(v) for v in np.minimum(np.ceil(corners.max(axis=0)), (width, height)))
    where = slice(top, bottom), slice(left, right)
    s = _SUPERSAMPLING
    finer = _filled((corners - (left, top)) * s, (right - left) * s, (bottom - top) * s)
    cover = np.asarray(finer.reduce(s))  # how much of each pixel is covered, 0–255
    y = np.linspace(-1.0, 1.0, cover.shape[0], dtype=np.float32)[:, None, None]
    x = np.linspace(-1.0, 1.0, cover.shape[1], dtype=np.float32)[None, :, None]
    strength, dx, dy = (np.float32(v) for v in item.shading)
    colour = item.colour.astype(np.float32) + 10 * strength * (dx * x + dy * y)
    alpha = cover.astype(np.float32)[..., None] / 255
    pixels[where] += alpha * (np.clip(colour, 0, 255) - pixels[where])
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[where] = cover >= 128
    return mask


def _grain(rng: np.random.Generator, pixels: Pixels) -> NDArray[np.uint8]:
    """``pixels`` as uint8, on most pictures with a camera's noise."""
    height, width = pixels.shape[:2]
    sigma = max(0.0, rng.uniform(-4.0, 9.0))
    if sigma:
        noise = rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        seen = (0.0, 0.0, SIZE * width / max(width, height), SIZE * height / max(width, height))
        enlarged = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR, box=seen)
        pixels = pixels + np.float32(sigma / 74) * (np.asarray(enlarged, dtype=np.float32)[..., None] - 127.5)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box around ``mask``, its far edges exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
