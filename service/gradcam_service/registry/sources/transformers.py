"""Builds image classifiers of Hugging Face transformers from a folder as ``save_pretrained`` writes it.

The folder of ``model.yaml`` holds config.json, preprocessor_config.json and the safetensors. Nothing is ever
downloaded, and code that comes with a model (``auto_map``) never runs: only what the installed package itself defines.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.registry.sources import Source

if TYPE_CHECKING:
    from torch import nn

    from gradcam_service.registry.built import Built
    from gradcam_service.registry.folder import ModelFolder

_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"


def _build(folder: ModelFolder) -> Built:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.hub_folder import described
    from gradcam_service.registry.hub_preprocess import preprocess_of

    config, processor = described(folder, _CONFIG), described(folder, _PREPROCESSOR)
    if not config:
        raise ModelFailed(f"there is no {_CONFIG} beside model.yaml; save_pretrained of transformers writes it")
    _check_activation(folder, config)
    preprocess = folder.spec.preprocess
    if preprocess is None:
        if not processor:
            raise ModelFailed(f"model.yaml must say how to preprocess: there is no {_PREPROCESSOR} beside it")
        preprocess = preprocess_of(folder.path, processor, folder.spec.input.channels == "bgr")
    content = hashlib.sha256(json.dumps([config, processor], sort_keys=True).encode()).hexdigest()
    return Built(_module(folder, config), folder.labels() or _labels(config), preprocess, content)


def _check_activation(folder: ModelFolder, config: dict[str, Any]) -> None:
    if config.get("problem_type") == "multi_label_classification" and "activation" not in folder.spec.model_fields_set:
        raise ModelFailed(f"{_CONFIG} says multi_label_classification; say activation: sigmoid in model.yaml")


def _labels(config: dict[str, Any]) -> list[str]:
    """Those of ``id2label``, in the order of their indices; none where it has gaps."""
    names = config.get("id2label") or {}
    try:
        by_index = {int(index): str(name) for index, name in names.items()}
        return [by_index[index] for index in range(len(by_index))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFailed(
            f"id2label of {_CONFIG} must name the classes 0, 1, …; or name labels in model.yaml"
        ) from error


def _module(folder: ModelFolder, described: dict[str, Any]) -> nn.Module:
    """The classifier with all of its weights, and no others.

    Raises:
        ModelFailed: it is no image classifier that transformers itself defines, or the weights are of something else.
    """
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils.logging import disable_progress_bar

    from gradcam_service.registry.hub_folder import check_keys, state

    disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        known = AutoModelForImageClassification._model_mapping.get(type(config), ())
    except (ValueError, OSError, KeyError) as error:
        own = "; code that comes with a model never runs" if "auto_map" in described else ""
        raise ModelFailed(f"{_CONFIG} describes no model of transformers: {first_line(error)}{own}") from error
    if not known:
        raise ModelFailed(
            f"{_CONFIG} describes a model of type {config.model_type!r}, for which transformers has no image classifier"
        )
    choices = known if isinstance(known, tuple) else (known,)  # several of DeiT, with and without teacher
    chosen = next((one for one in choices if one.__name__ in (config.architectures or ())), choices[0])
    module, found = chosen.from_pretrained(None, config=config, state_dict=state(folder), output_loading_info=True)
    check_keys(type(module).__name__, found["missing_keys"], found["mismatched_keys"], found["unexpected_keys"])
    model: nn.Module = module
    return model


SOURCE = Source(
    _build,
    architecture=False,
    weights=False,
    own_weights="of the folder",
    reproducible=True,
    extra="transformers",
)
