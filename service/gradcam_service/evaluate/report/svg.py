"""Plots as SVG: intervals side by side, and lines. Colours and letters are the page's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from gradcam_service.evaluate.protocols import Averages, Plot

_COLOURS = ("#1b6ca8", "#c8553d", "#2f7d4f", "#7b4fa3", "#a67c00", "#00808a", "#b03a78", "#5f6b76")
_DASHES = ("", "6 3", "2 3")  # a second and third round of colours
_WIDTH, _HEIGHT, _LEFT, _ROW = 640, 300, 56, 24
_LETTER, _LONGEST = 7, 40
"""Pixels that a letter takes, on the average of a name; and letters of a name that are shown."""


def intervals(figures: Mapping[str, Averages]) -> str:
    """A dot with its 95 % interval for each method, one below the other, on one axis."""
    ends = [end for of in figures.values() for end in (of.overall.low, of.overall.high, of.overall.mean)]
    ticks = _ticks(min(ends), max(ends))
    low, high, names = ticks[0], ticks[-1], _wide(figures) + 16
    height = _ROW * len(figures) + 30

    def x(value: float) -> float:
        return names + (value - low) / (high - low) * (_WIDTH - names - 76)

    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{height - 22}"/>'
        f'<text x="{x(t):.1f}" y="{height - 6}" text-anchor="middle">{t:g}</text>'
        for t in ticks
    ]
    for row, (method, of) in enumerate(figures.items()):
        y, each = _ROW * row + 16, of.overall
        parts.append(
            f'<text x="{names - 12}" y="{y + 4}" text-anchor="end">{escape(method[:_LONGEST])}</text>'
            f'<line class="interval" x1="{x(each.low):.1f}" x2="{x(each.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{x(each.mean):.1f}" cy="{y}" r="4.5"/>'
            f'<text x="{_WIDTH - 60}" y="{y + 4}">{each.mean:.3f}</text>'
        )
    said = "; ".join(f"{method} {of.overall.mean:.3f}" for method, of in figures.items())
    return _svg(height, said, parts)


def lines(plot: Plot) -> str:
    """One line for each name, with a legend beside them."""
    drawn = {name: (xs, ys) for name, (xs, ys) in plot.lines.items() if len(xs) > 0}
    if not drawn:
        return ""
    x_ticks = _ticks(*_ends([value for xs, _ in drawn.values() for value in xs]))
    y_ticks = _ticks(*_ends([value for _, ys in drawn.values() for value in ys]))
    width, height = _WIDTH - _LEFT - _wide(drawn) - 44, _HEIGHT - 60

    def x(value: float) -> float:
        return _LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * width

    def y(value: float) -> float:
        return 12 + height - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * height

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in y_ticks
    ]
    parts += [f'<text x="{x(t):.1f}" y="{height + 28}" text-anchor="middle">{t:g}</text>' for t in x_ticks]
    parts.append(f'<text x="{_LEFT + width / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(plot.x)}</text>')
    parts.append(
        f'<text transform="translate(14 {12 + height / 2}) rotate(-90)" text-anchor="middle">{escape(plot.y)}</text>'
    )
    for place, (name, (xs, ys)) in enumerate(drawn.items()):
        colour, dash = _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
        style = f'stroke="{colour}" stroke-dasharray="{dash}"'
        at, left = 20 + 18 * place, _LEFT + width + 12
        parts.append(
            f'<polyline fill="none" stroke-width="2" {style} points="{points}"/>'
            f'<line x1="{left}" x2="{left + 22}" y1="{at}" y2="{at}" stroke-width="2" {style}/>'
            f'<text x="{left + 28}" y="{at + 4}">{escape(name[:_LONGEST])}</text>'
        )
    return _svg(max(_HEIGHT, 30 + 18 * len(drawn)), f"{plot.title}: {', '.join(drawn)}", parts)


def _svg(height: float, said: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(said)}" '
        f'style="max-width:{_WIDTH}px">{"".join(parts)}</svg>'
    )


def _wide(names: Iterable[str]) -> int:
    """Pixels that the longest of names takes."""
    return _LETTER * max(len(name[:_LONGEST]) for name in names)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below the lowest value to above the highest, three to seven of them."""
    if not low < high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]
