"""What the model said, drawn as was asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.core.results import Explanation
from gradcam_service.images.boxes import bounding_box
from gradcam_service.images.canvas import place
from gradcam_service.images.geometry import PreparedImage
from gradcam_service.images.render import Picture, heatmap, overlay
from gradcam_service.images.scale import MapKind, plane
from gradcam_service.registry.spec import Card
from gradcam_service.tasks import TASKS
from gradcam_service.worker.client import Answer


def drawings(
    card: Card, answer: Answer, prepared: PreparedImage, photo: Image.Image | None, options: ExplainOptions
) -> list[Callable[[], Explanation]]:
    """For each target explained, what draws its pictures and gives its explanation; all may be called at the same time.

    Args:
        card: of the model that answered.
        answer: its scores and maps.
        prepared: what it saw.
        photo: what overlays are drawn on; None where none is asked for.
        options: what to draw.
    """
    targets = TASKS[card.task].describe(card, answer.scores, answer.targets, asked=bool(options.target))
    return [
        partial(_explanation, cam, target, answer.layer, prepared, photo, options)
        for cam, target in zip(answer.maps, targets, strict=True)
    ]


def _explanation(
    cam: np.ndarray,
    target: Any,  # noqa: ANN401  the task's own
    layer: str,
    prepared: PreparedImage,
    photo: Image.Image | None,
    options: ExplainOptions,
) -> Explanation:
    x0, y0, x1, y1 = (round(edge, 2) for edge in prepared.region)
    box = bounding_box(plane(cam, _kind(cam)), prepared, options.threshold) if options.boxes else None
    return Explanation(
        target,
        options.method,
        layer,
        (x0, y0, x1, y1),
        cam,
        *_pictures(cam, prepared, photo, options),
        boxes=([box] if box else []) if options.boxes else None,
    )


def _pictures(
    cam: np.ndarray, prepared: PreparedImage, photo: Image.Image | None, options: ExplainOptions
) -> tuple[Picture | None, Picture | None]:
    """The heatmap and the overlay, each where it is asked for."""
    if not {"heatmap", "overlay"} & set(options.outputs):
        return None, None
    heat = place(cam, prepared, kind=_kind(cam), size=options.size, max_side=options.max_side)
    flat = heatmap(heat, colormap=options.colormap) if "heatmap" in options.outputs else None
    if photo is None:
        return flat, None
    return flat, overlay(heat, photo, colormap=options.colormap, alpha=options.alpha, encoding=options.format)


def _kind(cam: np.ndarray) -> MapKind:
    return "signed_colour" if cam.ndim == 3 and np.ptp(cam, axis=2).any() else "unsigned"
