"""Rendering of explanations, as was asked: heatmaps, overlays, boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.core.results import Explanation
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.boxes import bounding_box
from gradcam_service.images.canvas import place, upsample
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.images.render import heatmap, overlay
from gradcam_service.images.scale import own_high, plane
from gradcam_service.maps import MapKind
from gradcam_service.registry.card import Card
from gradcam_service.targets import TARGETS, Target
from gradcam_service.tasks.classification import probabilities
from gradcam_service.worker.client import Answer, Quality


def highest(card: Card, answer: Answer, options: ExplainOptions) -> float:
    """The largest end of the own scales of an image's maps: where the one scale of a request has to end, at least."""
    maps = (_map(*each, options.explained_by(card)) for each in zip(answer.maps, answer.targets, strict=True))
    return max((own_high(cam, kind, options.clip) for cam, kind in maps), default=0.0)


def drawings(
    card: Card,
    answer: Answer,
    prepared: PreparedImage,
    photo: Image.Image | None,
    options: ExplainOptions,
    shared: float | None = None,
) -> list[Callable[[], Explanation]]:
    """For each target explained, what draws its pictures and gives its explanation; all may be called at the same time.

    Args:
        card: of the model that answered.
        answer: its scores and maps.
        prepared: what it saw.
        photo: what overlays are drawn on; None where none is asked for.
        options: what to draw.
        shared: where the one scale of all maps ends, if they share one.
    """
    method = options.explained_by(card)
    probability = probabilities(card.of_classes(answer.scores), card.activation)
    qualities = answer.quality or [None] * len(answer.targets)
    return [
        partial(
            _explanation,
            *_map(cam, target, method),
            TARGETS[target.kind].name(target.value, card),
            TARGETS[target.kind].describe(target.value, card, answer.scores, probability, asked=bool(options.target)),
            method,
            answer.layer,
            prepared,
            photo,
            options,
            card.input.shown,
            shared,
            quality,
        )
        for cam, target, quality in zip(answer.maps, answer.targets, qualities, strict=True)
    ]


def at_input_size(explanation: Explanation, card: Card) -> np.ndarray:
    """A map stretched over all that the model sees: (H, W) float32; of signed colours it is as large already.

    Bilinear with ``align_corners=False``, in the map's own units.
    """
    height, width = card.preprocess.input_size
    if explanation.map.ndim != 2:
        return explanation.map
    return np.asarray(upsample(explanation.map, Region(0, 0, width, height), (0, 0, width, height)))


def _explanation(
    cam: np.ndarray,
    kind: MapKind,
    name: str,
    target: Any,  # noqa: ANN401  its kind's own
    method: str,
    layer: str,
    prepared: PreparedImage,
    photo: Image.Image | None,
    options: ExplainOptions,
    bands: Sequence[int],
    shared: float | None,
    quality: Quality | None,
) -> Explanation:
    x0, y0, x1, y1 = (round(edge, 2) for edge in prepared.region)
    box = bounding_box(plane(cam, kind), prepared, options.threshold) if options.boxes else None
    heat = flat = over = None
    if {"heatmap", "overlay"} & set(options.outputs):
        high = _high(cam, kind, options) if shared is None else shared
        shown = cam[:, :, list(bands)] if kind == "signed_colour" else cam
        heat = place(shown, prepared, kind=kind, high=high, size=options.size, max_side=options.max_side)
    if heat and "heatmap" in options.outputs:
        flat = heatmap(heat, colormap=options.colormap, blend=options.blend or "level")
    if heat and photo is not None:
        over = overlay(
            heat,
            photo,
            colormap=options.colormap,
            alpha=options.alpha,
            blend=options.blend or "even",
            outline=options.outline,
            encoding=options.format,
            legend=options.legend,
        )
    return Explanation(
        name,
        target,
        method,
        layer,
        kind,
        (x0, y0, x1, y1),
        prepared.image_size,
        cam,
        flat,
        over,
        scale=(heat.low, heat.high) if heat else None,
        boxes=([box] if box else []) if options.boxes else None,
        quality=quality,
    )


def _map(cam: np.ndarray, target: Target, method: str) -> tuple[np.ndarray, MapKind]:
    """A map, and what its values mean: of a single band, shades are no colours, and (H, W, 1) is (H, W)."""
    kind = METHODS[method].kind_of(is_difference=TARGETS[target.kind].is_difference)
    return (cam[:, :, 0], "signed") if kind == "signed_colour" and cam.shape[2] == 1 else (cam, kind)


def _high(cam: np.ndarray, kind: MapKind, options: ExplainOptions) -> float | None:
    """The value at the upper end of the scale; None for an unsigned map's own."""
    if not isinstance(options.scale, str):
        return options.scale
    return None if kind == "unsigned" else own_high(cam, kind, options.clip)
