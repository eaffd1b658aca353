"""Bodies that describe models and what they can do."""

from __future__ import annotations

from gradcam_service.api.schemas import (
    CheckBody,
    EntriesBody,
    InputBody,
    LayerBody,
    MethodBody,
    ModelBody,
    ModelDetail,
    TextBody,
)
from gradcam_service.explain.methods import METHODS
from gradcam_service.inputs import INPUTS
from gradcam_service.registry.card import LayerCard
from gradcam_service.registry.listing import Model
from gradcam_service.targets import of_task
from gradcam_service.tasks import TASKS, TextOption


def model_body(model: Model, devices: list[str]) -> ModelBody:
    """A model version as ``GET /models`` lists it."""
    body = ModelBody(
        name=model.name,
        version=model.version,
        description=model.description or None,
        aliases=model.aliases,
        state=model.state,
        reason=model.reason or None,
        notes=model.notes or None,
    )
    card = model.card
    if card is None:
        return body
    height, width = card.preprocess.input_size
    kind, task = INPUTS[card.input.reader], TASKS[card.task]
    default = next(layer for layer in card.layers if layer.name == card.layer)
    return body.model_copy(
        update={
            "source": card.source,
            "task": card.task,
            "activation": card.activation,
            "input": InputBody(
                width=width,
                height=height,
                channels=card.input.of_frame,
                frames=card.input.frames if card.input.frames > 1 else None,
                depth=card.input.depth,
                range=card.input.range,
                media_types=list(kind.media_types),
                endings=list(kind.endings),
            ),
            "entries": EntriesBody(**vars(task.entries), compared="contrast" in of_task(card.task)),
            "text": _text(task.text) if task.text else None,
            "classes": len(card.labels),
            "layer": _layer(default),
            "methods": card.method_names(),
            "method": card.method,
            "digest": card.digest,
            "weights": card.weights,
            "memory": card.memory,
            "runtime": card.runtime,
            "precision": card.precision,
            "torch": card.torch,
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
            name=card.name,
            title=method.title,
            summary=method.summary,
            paper=method.paper,
            kind=method.kind,
            forward_passes=card.forward_passes,
            options=method.defaults,
            refused=card.refused or None,
        )
        for card in model.card.methods
        for method in [METHODS[card.name]]
    ]
    return ModelDetail(
        **summary,
        labels=model.card.labels,
        layers=layers,
        inner_layers=model.card.inner_layers,
        preprocess=preprocess,
        checks=[CheckBody.model_validate(check) for check in model.card.checks],
        method_details=methods,
    )


def _text(option: TextOption) -> TextBody:
    told = {name: value for name, value in vars(option).items() if name in TextBody.model_fields}
    return TextBody(option=option.name, **told)


def _layer(layer: LayerCard) -> LayerBody:
    return LayerBody(name=layer.name, shape=list(layer.shape))
