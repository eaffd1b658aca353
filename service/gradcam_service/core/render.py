"""What the model said, put into the bodies that callers receive."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from gradcam_service.api.schemas import (
    ExplainOptions,
    ExplanationBody,
    InputBody,
    LayerBody,
    MapBody,
    MethodBody,
    ModelBody,
    ModelDetail,
    PictureBody,
    Prediction,
    Target,
)
from gradcam_service.images.boxes import bounding_box
from gradcam_service.images.canvas import Heat, SignedMap, place, place_signed
from gradcam_service.images.geometry import PreparedImage
from gradcam_service.images.render import Picture, heatmap, overlay, signed_picture
from gradcam_service.registry.spec import Card, LayerCard, Model
from gradcam_service.worker.client import Answer


def predictions(card: Card, scores: np.ndarray, top_k: int) -> list[Prediction]:
    """The ``top_k`` most probable classes, the most probable first; of equals the lower index first."""
    probabilities = card.probabilities(scores)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [_prediction(card, scores, probabilities, int(index)) for index in order]


def explanations(
    card: Card, answer: Answer, prepared: PreparedImage, photo: Image.Image | None, options: ExplainOptions
) -> list[ExplanationBody]:
    """One body for each target explained, pictures drawn; the arguments are those of `drawings`."""
    return [draw() for draw in drawings(card, answer, prepared, photo, options)]


def drawings(
    card: Card, answer: Answer, prepared: PreparedImage, photo: Image.Image | None, options: ExplainOptions
) -> list[Callable[[], ExplanationBody]]:
    """For each target explained, what draws its pictures and gives its body; all may be called at the same time.

    Args:
        card: of the model that answered.
        answer: its scores and maps.
        prepared: what it saw.
        photo: what overlays are drawn on; None where none is asked for.
        options: what to draw.
    """
    probabilities = card.probabilities(answer.scores)
    targets = [_prediction(card, answer.scores, probabilities, target) for target in answer.targets]
    return [
        partial(_explanation, cam, target, answer.layer, prepared, photo, options)
        for cam, target in zip(answer.maps, targets, strict=True)
    ]


def _explanation(
    cam: np.ndarray,
    target: Prediction,
    layer: str,
    prepared: PreparedImage,
    photo: Image.Image | None,
    options: ExplainOptions,
) -> ExplanationBody:
    x0, y0, x1, y1 = (round(edge, 2) for edge in prepared.region)
    box = bounding_box(_grid(cam), prepared, options.threshold) if options.boxes else None
    return ExplanationBody(
        target=Target(**target.model_dump(), chosen="request" if options.target else "top-1"),
        method=options.method,
        layer=layer,
        region=(x0, y0, x1, y1),
        max=float(cam.max()),
        empty=not cam.any(),
        boxes=([box] if box else []) if options.boxes else None,
        **_outputs(cam, prepared, photo, options),
    )


def _outputs(
    cam: np.ndarray, prepared: PreparedImage, photo: Image.Image | None, options: ExplainOptions
) -> dict[str, PictureBody | MapBody]:
    drawn: dict[str, PictureBody | MapBody] = {}
    if "map" in options.outputs:
        drawn["map"] = MapBody(shape=list(cam.shape), data=_base64(cam.astype("<f4").tobytes()))
    if {"heatmap", "overlay"} & set(options.outputs):
        on_canvas = _placed(cam, prepared, options)
        if "heatmap" in options.outputs:
            drawn["heatmap"] = _picture(
                heatmap(on_canvas, colormap=options.colormap)
                if isinstance(on_canvas, Heat)
                else signed_picture(on_canvas)
            )
        if photo is not None:
            drawn["overlay"] = _picture(
                overlay(on_canvas, photo, colormap=options.colormap, alpha=options.alpha, encoding=options.format)
            )
    return drawn


def _placed(cam: np.ndarray, prepared: PreparedImage, options: ExplainOptions) -> Heat | SignedMap:
    """Maps of colours centred on grey; all others, those of methods blind to colour among them, as heat."""
    if cam.ndim == 3 and np.ptp(cam, axis=2).any():
        return place_signed(cam, prepared, size=options.size, max_side=options.max_side)
    return place(_grid(cam), prepared, size=options.size, max_side=options.max_side)


def _grid(cam: np.ndarray) -> np.ndarray:
    """(h, w): where it is; of colours, how much in all."""
    if cam.ndim == 2:
        return cam
    return np.ascontiguousarray(np.abs(cam).sum(axis=2) if np.ptp(cam, axis=2).any() else cam[:, :, 0])


def _prediction(card: Card, scores: np.ndarray, probabilities: np.ndarray, index: int) -> Prediction:
    return Prediction(
        index=index, label=card.labels[index], logit=float(scores[index]), probability=float(probabilities[index])
    )


def _picture(picture: Picture) -> PictureBody:
    return PictureBody(
        media_type=picture.media_type, width=picture.width, height=picture.height, data=_base64(picture.data)
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def model_body(model: Model, devices: list[str]) -> ModelBody:
    """A model version as ``GET /models`` lists it."""
    body = ModelBody(
        name=model.name,
        version=model.version,
        aliases=model.aliases,
        state=model.state,
        reason=model.reason or None,
    )
    card = model.card
    if card is None:
        return body
    height, width = card.preprocess.input_size
    default = next(layer for layer in card.layers if layer.name == card.layer)
    return body.model_copy(
        update={
            "source": card.source,
            "task": card.task,
            "activation": card.activation,
            "input": InputBody(width=width, height=height),
            "classes": len(card.labels),
            "layer": _layer(default),
            "methods": card.method_names(),
            "digest": card.digest,
            "weights": card.weights,
            "memory": card.memory,
            "runtime": card.runtime,
            "device": devices,
        }
    )


def model_detail(model: Model, devices: list[str]) -> ModelDetail:
    """A model version as ``GET /models/{name}`` shows it."""
    summary = dict(model_body(model, devices))
    if model.card is None:
        return ModelDetail(**summary)
    preprocess = {name: value for name, value in vars(model.card.preprocess).items() if value is not None}
    layers = [_layer(layer) for layer in model.card.layers]
    methods = [
        MethodBody(
            name=method.name,
            forward_passes=method.forward_passes,
            options=method.options,
            refused=method.refused or None,
        )
        for method in model.card.methods
    ]
    return ModelDetail(
        **summary, labels=model.card.labels, layers=layers, preprocess=preprocess, method_details=methods
    )


def _layer(layer: LayerCard) -> LayerBody:
    return LayerBody(name=layer.name, shape=list(layer.shape))
