"""Folders as Hugging Face's hub has them: JSON objects of what is configured, and weights as safetensors."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.checkpoint import Tensors, read_tensors, some
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.weights import verified, weights_file

_INDEX = "model.safetensors.index.json"


def described(folder: ModelFolder, name: str) -> dict[str, Any]:
    """The content of one of the folder's JSON files; empty where there is no such file.

    Raises:
        ModelFailed: it is no JSON object.
    """
    path = folder.file("source", name)
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelFailed(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFailed(f"{name} is no JSON object")
    return value


def state(folder: ModelFolder) -> dict[str, Tensor]:
    """The weights: in the file that ``model.yaml`` names, in ``model.safetensors``, or in the several of an index.

    Raises:
        ModelFailed: there are none, or they are pickled, or elsewhere.
    """
    if folder.spec.weights is not None:
        return _largest(read_tensors(weights_file(folder)), folder.spec.weights)
    index = described(folder, _INDEX).get("weight_map", {})
    names = sorted(set(map(str, index.values()))) if isinstance(index, Mapping) and index else ["model.safetensors"]
    if folder.spec.sha256 and len(names) > 1:
        raise ModelFailed(f"the weights are in {len(names)} files, and sha256 is of one; the model's digest covers all")
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder.file("weights", name)
        if path.suffix != ".safetensors" or not path.is_file():
            raise ModelFailed(
                f"there is no {name} beside model.yaml; pickled weights (pytorch_model.bin) are refused: load "
                "them where you trust them, and save them again with save_pretrained, or timm's save_for_hf"
            )
        tensors |= read_tensors(verified(path, folder.spec.sha256))[""]
    return tensors


def _largest(tensors: Tensors, weights: str) -> dict[str, Tensor]:
    """The dictionary that is the network's: beside it, an optimizer's are small.

    Raises:
        ModelFailed: another has the same names.
    """
    (place, largest), *others = sorted(tensors.items(), key=lambda item: len(item[1]), reverse=True)
    if other := next((name for name, named in others if named.keys() == largest.keys()), None):
        raise ModelFailed(f"weights {weights}: {place!r} and {other!r} would both fit; save one alone")
    return largest


def fill(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load weights into a module, all of them and no others.

    Raises:
        ModelFailed: they are of another; see `check_keys`.
    """
    own = module.state_dict()
    shared = own.keys() & tensors.keys()
    mismatched = [name for name in shared if own[name].shape != tensors[name].shape]
    check_keys(what, own.keys() - shared, mismatched, tensors.keys() - shared)
    module.load_state_dict(tensors)


def check_keys(
    what: str, missing: Collection[object], mismatched: Collection[object], unexpected: Collection[object]
) -> None:
    """See that a module has got all weights of its own and no others; what a file has besides, `fit` looks for.

    Raises:
        ModelFailed: naming the first keys of the first fault that there is.
    """
    for fault, keys in (("missing", missing), ("mismatched", mismatched), ("unexpected", unexpected)):
        if keys:
            raise ModelFailed(f"the weights don't fit {what}: {fault} keys {some(sorted(map(str, keys)))}")
