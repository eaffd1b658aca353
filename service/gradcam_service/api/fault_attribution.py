"""Attribution of failures: what a caller chose is not held against the service's availability."""

from __future__ import annotations

from collections.abc import Sequence

from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.errors import DeadlineExceeded, ModelFailed, ModelLoading, ServiceError, UnknownModel
from gradcam_service.registry.listing import Model, resolve
from gradcam_service.settings import Settings


def is_callers(error: ServiceError, options: PredictOptions, settings: Settings, models: Sequence[Model]) -> bool:
    """Whether a caller who chose otherwise would have been answered.

    What is chosen: a model that loads on demand, which the default one never does and nobody has promised to be there;
    a deadline shorter than the service's own; a method, or `quality`, that takes many forward passes.
    """
    try:
        model = resolve(models, options.model or settings.default_model)
    except UnknownModel:  # it is gone meanwhile
        return False
    if isinstance(error, ModelFailed | ModelLoading) and model.on_demand:
        return True
    if isinstance(error, DeadlineExceeded | ModelLoading):
        hurried = options.timeout_ms is not None and options.timeout_ms < settings.timeout_ms
        return hurried or _is_expensive(options, model)
    return False


def _is_expensive(options: PredictOptions, model: Model) -> bool:
    if not isinstance(options, ExplainOptions) or model.card is None:
        return False
    name = options.explained_by(model.card)
    return options.quality or any(method.name == name and method.forward_passes > 1 for method in model.card.methods)
