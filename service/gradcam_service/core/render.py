"""Rendering of explanations, as was asked: heatmaps, overlays, boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.core.results import Explanation
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.boxes import bounding_box
from gradcam_service.images.canvas import Heat, backdrop, place, upsample
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.images.render import encoded, heatmap, overlay
from gradcam_service.images.scale import own_high, plane
from gradcam_service.inputs import Received
from gradcam_service.maps import MapKind
from gradcam_service.registry.card import Card
from gradcam_service.targets import TARGETS, Target
from gradcam_service.tasks.classification import probabilities
from gradcam_service.worker.client import Answer


@dataclass(frozen=True, eq=False)
class Renderer:
    """Renderer of one image's maps: all that is kept of the image while its answer is computed.

    Attributes:
        card: of the model that answers.
        options: what to draw.
        prepared: what the model sees.
        photo: what overlays are drawn on, mode RGB; None where none is asked for.
    """

    card: Card
    options: ExplainOptions
    prepared: PreparedImage
    photo: Image.Image | None

    @classmethod
    def of(cls, image: Received, options: ExplainOptions, card: Card) -> Self:
        """The renderer for an image; the original, which may be as large as a picture can be, is not kept."""
        photo = None
        if "overlay" in options.outputs:
            photo = backdrop(image.original(), image.prepared, size=options.size, max_side=options.max_side)
        return cls(card, options, image.prepared, photo)

    def undrawn(self, answer: Answer) -> list[Explanation]:
        """What an answer explains, a target each, without pictures and boxes."""
        card, options = self.card, self.options
        method = options.explained_by(card)
        probability = probabilities(card.of_classes(answer.scores), card.activation)
        x0, y0, x1, y1 = (round(edge, 2) for edge in self.prepared.region)
        explanations = []
        for cam, target, quality in zip(
            answer.maps, answer.targets, answer.quality or [None] * len(answer.targets), strict=True
        ):
            kind, known = _kind(cam, target, method), TARGETS[target.kind]
            explanations.append(
                Explanation(
                    name=known.name(target.value, card),
                    target=known.describe(target.value, card, answer.scores, probability, asked=bool(options.target)),
                    method=method,
                    layer=answer.layer,
                    kind=kind,
                    region=(x0, y0, x1, y1),
                    image_size=self.prepared.image_size,
                    map=cam[:, :, 0] if cam.ndim == 3 and kind == "signed" else cam,
                    quality=quality,
                )
            )
        return explanations

    def shared_high(self, explanations: Sequence[Explanation]) -> float:
        """The largest end of the maps' own scales: where one scale of all has to end, at least."""
        return max((own_high(each.map, each.kind, self.options.clip) for each in explanations), default=0.0)

    def drawn(self, explanation: Explanation, shared: float | None = None) -> Explanation:
        """The explanation with its pictures and boxes; may be called for several at the same time.

        Args:
            explanation: undrawn.
            shared: where the one scale of all maps ends, if they share one.
        """
        options, flat, over, scale, boxes = self.options, None, None, None, None
        if options.boxes:
            box = bounding_box(plane(explanation.map, explanation.kind), self.prepared, options.threshold)
            boxes = [box] if box else []
        if {"heatmap", "overlay"} & set(options.outputs):
            heat = self._heat(explanation, shared)
            scale = heat.low, heat.high
            if "heatmap" in options.outputs:
                flat = heatmap(heat, colormap=options.colormap, blend=options.blend or "level")
            if self.photo is not None:
                over = encoded(self._laid_over(heat, self.photo), options.format)
        return replace(explanation, heatmap=flat, overlay=over, scale=scale, boxes=boxes)

    def shown(self, answer: Answer) -> Iterator[tuple[Explanation, Image.Image]]:
        """What an answer explains, each with its map over the photo, or alone where it has colours of its own.

        The pictures are not encoded: mode RGB.
        """
        explanations = self.undrawn(answer)
        shared = self.shared_high(explanations) if self.options.scale == "shared" else None
        for explanation in explanations:
            heat = self._heat(explanation, shared)
            if self.photo is None or heat.kind == "signed_colour":
                yield explanation, heat.levels
            else:
                yield explanation, self._laid_over(heat, self.photo)

    def _heat(self, explanation: Explanation, shared: float | None = None) -> Heat:
        """The map on its canvas and scale, which is its own where none is ``shared``."""
        options, cam, kind = self.options, explanation.map, explanation.kind
        high = _high(cam, kind, options) if shared is None else shared
        shown = cam[:, :, list(self.card.input.shown)] if kind == "signed_colour" else cam
        return place(shown, self.prepared, kind=kind, high=high, size=options.size, max_side=options.max_side)

    def _laid_over(self, heat: Heat, photo: Image.Image) -> Image.Image:
        """The heat over the photo, mode RGB."""
        options = self.options
        return overlay(
            heat,
            photo,
            colormap=options.colormap,
            alpha=options.alpha,
            blend=options.blend or "even",
            outline=options.outline,
            legend=options.legend,
        )


def at_input_size(explanation: Explanation, card: Card) -> np.ndarray:
    """A map stretched over all that the model sees: (H, W) float32; of signed colours it is as large already.

    Bilinear with ``align_corners=False``, in the map's own units.
    """
    height, width = card.preprocess.input_size
    if explanation.map.ndim != 2:
        return explanation.map
    return np.asarray(upsample(explanation.map, Region(0, 0, width, height), (0, 0, width, height)))


def _kind(cam: np.ndarray, target: Target, method: str) -> MapKind:
    """What a map's values mean: of a single band, shades are no colours."""
    kind = METHODS[method].kind_of(is_difference=TARGETS[target.kind].is_difference)
    return "signed" if kind == "signed_colour" and cam.shape[2] == 1 else kind


def _high(cam: np.ndarray, kind: MapKind, options: ExplainOptions) -> float | None:
    """The value at the upper end of the scale; None for an unsigned map's own."""
    if not isinstance(options.scale, str):
        return options.scale
    return None if kind == "unsigned" else own_high(cam, kind, options.clip)
