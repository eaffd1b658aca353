"""Backgrounds: plain, smooth, textured or cluttered, and never with one of the shape classes in them.

Every random draw is of a fixed number of values that does not depend on the size asked for, and every texture is made
at a low resolution and enlarged: the same seed gives the same picture at any size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.float32]  # (H, W, 3), 0–255
Vector = NDArray[np.float64]  # (2,), a place or a direction in pixels
Fill = tuple[int, ...]

_SUPERSAMPLING = 2


def background(rng: np.random.Generator, width: int, height: int) -> tuple[Pixels, NDArray[np.float64]]:
    """A background of ``width`` × ``height`` pixels and the colours (n, 3) that it is mostly made of."""
    palette = _palette(rng)
    kind = rng.choice(["plain", "smooth", "textured", "cluttered"], p=[0.12, 0.13, 0.2, 0.55])
    strength = rng.uniform(20.0, 110.0)
    ramp = _ramp(rng, width, height)
    texture = _texture(rng, width, height)
    clutter_seed = int(rng.integers(2**63))
    if kind == "plain":
        return np.broadcast_to(palette[0], (height, width, 3)).astype(np.float32), palette[:1]
    pixels = (palette[0] * (1 - ramp) + palette[1] * ramp).astype(np.float32)
    if kind in ("textured", "cluttered"):
        pixels += np.float32(strength) * texture
    if kind == "cluttered":
        pixels = _cluttered(np.random.default_rng(clutter_seed), pixels, palette)
    return pixels, palette[:2]


def _palette(rng: np.random.Generator) -> NDArray[np.float64]:
    """Four colours (4, 3): the first is free (sometimes white, grey or black), the others wander from it."""
    first = rng.uniform(0.0, 255.0, 3)
    if rng.random() < 0.4:
        first[:] = rng.choice([0.0, 128.0, 255.0]) if rng.random() < 0.4 else first[0]
    wander = rng.normal(0.0, 45.0, (4, 3))
    wander[0] = 0.0
    colours: NDArray[np.float64] = np.clip(first + wander, 0.0, 255.0)
    return colours


def _ramp(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A linear ramp (height, width, 1) from 0 to 1 along a random direction."""
    angle = rng.uniform(0.0, 2 * np.pi)
    x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    along = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
    ramp: Pixels = np.clip(along + 0.5, 0.0, 1.0).astype(np.float32)[..., None]
    return ramp


def _texture(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Noise of a few octaves (height, width, 3) or stripes (height, width, 1), about -0.5 to 0.5."""
    total = np.zeros((height, width, 3), dtype=np.float32)
    longest = max(width, height)
    weights = rng.dirichlet([1.0, 1.0, 1.0, 1.0])
    coloured = rng.random() < 0.5
    for n, weight in zip((4, 12, 32, 80), weights, strict=True):
        noise = rng.integers(0, 256, (n, n, 3), dtype=np.uint8)
        if not coloured:
            noise[:] = noise[..., :1]
        seen = (0.0, 0.0, n * width / longest, n * height / longest)
        enlarged = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC, box=seen)
        total += np.float32(weight) * (np.asarray(enlarged, dtype=np.float32) / 255 - 0.5)
    stripes = _stripes(rng, width, height)
    return stripes if rng.random() < 0.2 else total * 1.6


def _stripes(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Soft parallel stripes (height, width, 1), -0.4 to 0.4."""
    angle, period, phase = rng.uniform(0.0, np.pi), rng.uniform(0.03, 0.2), rng.uniform(0.0, 2 * np.pi)
    longest = max(width, height)
    x = (np.arange(width, dtype=np.float32) + 0.5) / longest
    y = (np.arange(height, dtype=np.float32) + 0.5) / longest
    along = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
    stripes: Pixels = 0.4 * np.tanh(3 * np.sin(along * (2 * np.pi / period) + phase)).astype(np.float32)[..., None]
    return stripes


def _cluttered(rng: np.random.Generator, pixels: Pixels, palette: NDArray[np.float64]) -> Pixels:
    """``pixels`` with strokes, bars, slim ellipses, arcs and ragged blobs drawn over them."""
    height, width = pixels.shape[:2]
    s = _SUPERSAMPLING
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize((width * s, height * s))
    draw = ImageDraw.Draw(canvas)
    unit = max(width, height) * s
    marks = (_stroke, _bar, _slim_ellipse, _arc, _blob)
    for _ in range(int(rng.integers(4, 26))):
        centre = rng.random(2) * canvas.size
        colour = palette[rng.integers(len(palette))] + rng.normal(0.0, 30.0, 3)
        fill = tuple(int(c) for c in np.clip(colour, 0, 255))
        marks[rng.integers(len(marks))](rng, draw, centre, unit, fill)
    return np.asarray(canvas.reduce(s), dtype=np.float32)


def _stroke(rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: Vector, unit: int, fill: Fill) -> None:
    """A wandering line of three segments."""
    steps = np.cumsum(rng.normal(0.0, 0.1, (4, 2)), axis=0) * unit
    points = [(float(x), float(y)) for x, y in centre + steps]
    draw.line(points, fill=fill, width=max(1, int(rng.uniform(0.005, 0.025) * unit)))


def _bar(rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: Vector, unit: int, fill: Fill) -> None:
    """A rectangle at least three times as long as it is wide."""
    along = _direction(rng) * rng.uniform(0.08, 0.3) * unit
    across = along[::-1] * (-1.0, 1.0) * rng.uniform(0.05, 0.33)
    _polygon(draw, centre + np.stack([along + across, along - across, -along - across, across - along]), fill)


def _slim_ellipse(rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: Vector, unit: int, fill: Fill) -> None:
    """An ellipse at least twice as long as it is wide."""
    along = _direction(rng) * rng.uniform(0.05, 0.2) * unit
    across = along[::-1] * (-1.0, 1.0) * rng.uniform(0.1, 0.5)
    angle = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    _polygon(draw, centre + np.outer(np.cos(angle), along) + np.outer(np.sin(angle), across), fill)


def _arc(rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: Vector, unit: int, fill: Fill) -> None:
    """Part of a thin ring."""
    radius, start = rng.uniform(0.05, 0.25) * unit, rng.uniform(0.0, 360.0)
    box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    width = max(1, int(rng.uniform(0.005, 0.02) * unit))
    draw.arc(box, start, start + rng.uniform(40.0, 220.0), fill=fill, width=width)


def _blob(rng: np.random.Generator, draw: ImageDraw.ImageDraw, centre: Vector, unit: int, fill: Fill) -> None:
    """A ragged patch of nine corners."""
    angle = np.sort(rng.uniform(0.0, 2 * np.pi, 9))
    radius = rng.uniform(0.3, 1.0, 9) * rng.uniform(0.03, 0.14) * unit
    _polygon(draw, centre + (radius * np.stack([np.cos(angle), np.sin(angle)])).T, fill)


def _direction(rng: np.random.Generator) -> Vector:
    """A random unit vector."""
    angle = rng.uniform(0.0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _polygon(draw: ImageDraw.ImageDraw, points: NDArray[np.float64], fill: Fill) -> None:
    """Fill the polygon of the corners ``points`` (n, 2)."""
    draw.polygon([(float(x), float(y)) for x, y in points], fill=fill)
