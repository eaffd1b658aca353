"""Results of requests, as data; how they are written is each client's affair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from gradcam_service.errors import ServiceError, UnknownTarget
from gradcam_service.images.canvas import Box
from gradcam_service.images.render import Picture
from gradcam_service.maps import MapKind
from gradcam_service.registry.card import Card, Computed
from gradcam_service.registry.listing import Model
from gradcam_service.worker.client import Quality


@dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of one target: where the model looks for it.

    Attributes:
        name: of what was explained, in a few words.
        target: what was explained, as its kind tells of it (`TargetKind.described`).
        method: the explanation method.
        layer: the layer explained; ``input`` of methods that no layer has a part in.
        kind: what the map's values mean.
        region: x0, y0, x1, y1 of what the model saw, in the original's pixels; beyond the picture where it pads.
        image_size: width and height of the original, upright.
        map: (h, w) or, of signed colours, a value for each band of the input, (H, W, C) float32, logit units but where
            the method says otherwise; after the method's own ReLU, neither resized nor normalised.
        heatmap: where asked for.
        overlay: where asked for.
        scale: the values of the weakest and the strongest colour of what was drawn; None where nothing was.
        boxes: around the largest hot area, in the original's pixels; none where nothing is hot, None if not asked for.
        quality: how far the map is to be trusted; None if not asked for.
    """

    name: str
    target: Any
    method: str
    layer: str
    kind: MapKind
    region: tuple[float, float, float, float]
    image_size: tuple[int, int]
    map: np.ndarray
    heatmap: Picture | None = None
    overlay: Picture | None = None
    scale: tuple[float, float] | None = None
    boxes: list[Box] | None = None
    quality: Quality | None = None

    @property
    def max(self) -> float:
        """The map's maximum."""
        return float(self.map.max())

    @property
    def peak(self) -> tuple[float, float] | None:
        """x, y of the centre of the maximum's cell, in the original's pixels, to 0.01; None of an empty map."""
        if self.empty:
            return None
        height, width, *_ = self.map.shape
        row, column, *_ = np.unravel_index(self.map.argmax(), self.map.shape)
        x0, y0, x1, y1 = self.region
        return round(x0 + (column + 0.5) * (x1 - x0) / width, 2), round(y0 + (row + 0.5) * (y1 - y0) / height, 2)

    @property
    def empty(self) -> bool:
        """Whether the map is zero everywhere: nothing speaks for this target."""
        return not self.map.any()

    @property
    def emptiness(self) -> str:
        """What to say of an empty map."""
        where = "the picture" if self.layer == "input" else "this layer"
        return f"all zero: nothing speaks for it in {where}"


@dataclass(frozen=True)
class Result:
    """One image's answer.

    Attributes:
        prediction: what the model says, as its task tells of it (`Task.prediction`).
        scores: (classes,) float32, logit units, which that was made of, and the model's value behind them if it gives
            one.
        explanations: one for each target; empty where only predictions were asked for.
        computed: by what.
        warnings: about the input, a sentence each.
    """

    prediction: Any
    scores: np.ndarray = field(compare=False)
    explanations: list[Explanation]
    computed: Computed
    warnings: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """The members of the prediction, but for those that its model doesn't give."""
        return {name: value for name, value in vars(self.prediction).items() if value is not None}

    def explained(self) -> list[Explanation]:
        """The explanations, for what has to show at least one.

        Raises:
            UnknownTarget: there is none, as the caption whose words would be explained is empty.
        """
        if not self.explanations:
            raise UnknownTarget(
                "the caption is empty, so that no word is explained; option caption has those of another text explained"
            )
        return self.explanations


@dataclass(frozen=True)
class Answers:
    """A request's answer.

    Attributes:
        model: that computed it.
        card: of the model, as it was when it did.
        results: one for each image, in order; what is wrong with one image is its answer.
    """

    model: Model
    card: Card
    results: list[Result | ServiceError]

    def of_labels(self, result: Result) -> bool:
        """Whether an image's scores are one for each of the model's labels, and not of a caption's words."""
        return not self.card.speaks and result.scores.shape == (len(self.card.labels),)

    @property
    def computed(self) -> Computed:
        """By what; two runtimes where the model became faster between two images.

        It need not be what its card says: where the compiled form of a model leaves a method to the model itself, that
        is on another runtime, and in float32.
        """
        found = [result.computed for result in self.results if isinstance(result, Result)] or [self.card.computed]
        runtimes = dict.fromkeys(each.runtime for each in found)
        return msgspec.structs.replace(found[0], runtime=", ".join(runtimes))
