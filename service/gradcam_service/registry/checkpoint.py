"""Reads checkpoints as people have them: tensors alone, wherever they are in a file. Pickled code is refused."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from gradcam_service.errors import ModelFailed, first_line, shortened
from gradcam_service.registry.foreign import foreign

Tensors = dict[str, dict[str, Tensor]]
"""Tensors of a file by name, by the place of the dictionary that holds them: ``""``, ``state_dict``, ``ema.module``."""


class _Inert:
    """Stands for an object of another class, and remembers nothing of it."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Items:
    """Stands for a kind of dictionary: it makes one of torch's unpickler's own."""

    def __new__(cls, *_: object) -> OrderedDict[object, object]:  # type: ignore[misc]
        return OrderedDict()


_BESIDE: dict[type, dict[str, str]] = {
    _Items: {
        "collections": "defaultdict",
        "easydict": "EasyDict",
        "lightning.fabric.utilities.data": "AttributeDict",
        "lightning_fabric.utilities.data": "AttributeDict",
        "pytorch_lightning.utilities.parsing": "AttributeDict",
        "yacs.config": "CfgNode",
    },
    _Inert: {
        "argparse": "Namespace",
        "builtins": "int float str list dict tuple",
        "datetime": "date datetime timedelta",
        "lightning.pytorch.callbacks.model_checkpoint": "ModelCheckpoint",
        "numpy": "dtype ndarray",
        "numpy._core.multiarray": "scalar _reconstruct",
        "numpy.core.multiarray": "scalar _reconstruct",
        "omegaconf.base": "ContainerMetadata Metadata",
        "omegaconf.dictconfig": "DictConfig",
        "omegaconf.listconfig": "ListConfig",
        "omegaconf.nodes": "AnyNode StringNode IntegerNode FloatNode BooleanNode",
        "pathlib": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
        "pathlib._local": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
        "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
        "types": "SimpleNamespace",
        "typing": "Any",
    },
}
"""Classes of what lies beside the tensors of many a checkpoint. None is imported or called: what stands for it is."""


def read_tensors(path: Path) -> Tensors:
    """Read all tensors of a ``.safetensors`` file, or of one that ``torch.save`` has written, whatever its name.

    Raises:
        ModelFailed: the file can't be read, is none of these, or holds pickled code.
    """
    try:
        if path.suffix == ".safetensors":
            return {"": load_file(path)}
        with torch.serialization.safe_globals(list(_stand_ins())):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFailed(f"weights {path} can't be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        reason = foreign(path, "safetensors") or f"damaged or cut short, fetch it again ({first_line(error)})"
        raise ModelFailed(f"weights {path} are no safetensors file: {reason}") from error
    except Exception as error:  # torch.load raises whatever a damaged file leads it to
        raise ModelFailed(f"weights {path} {_refusal(path, error)}") from error
    found = {place: tensors for place, tensors in _places(content, "", 0) if tensors}
    if not found:
        raise ModelFailed(f"weights {path} hold something else than a state dict of tensors: {_shown(content)}")
    return found


def _stand_ins() -> Iterator[tuple[type, str]]:
    for stand_in, classes in _BESIDE.items():
        for module, names in classes.items():
            yield from ((stand_in, f"{module}.{name}") for name in names.split())


def _refusal(path: Path, error: Exception) -> str:
    if what := foreign(path, "torch"):
        return f"are {what}"
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+\w)", str(error))
    if named or "Unsupported operand" in str(error):
        return (
            f"refused: only tensors are loaded, never pickled code{f' ({shortened(named[1])})' if named else ''}. "
            "Where you trust it, load it with weights_only=False and torch.save(model.state_dict(), 'weights.pth')"
        )
    return "are no checkpoint, or are damaged or cut short; fetch or save them again"


def _places(content: object, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary in what a file holds, and the tensors in each."""
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if isinstance(content, Mapping) and depth < 4:
        named = {key: value for key, value in content.items() if isinstance(key, str | int)}
        yield place, {key: value for key, value in named.items() if isinstance(key, str) and _is_plain(value)}
        for key, value in named.items():
            yield from _places(value, f"{place}.{key}" if place else str(key), depth + 1)


def _is_plain(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor whose numbers are there: none that is sparse, quantised, or of the device meta."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not value.is_quantized and not value.is_meta


def some(names: Collection[str], most: int = 3) -> str:
    """The first of some names, as short as a message needs them."""
    first = [name if len(name) <= 40 else f"…{name[-39:]}" for name in [*names][:most]]
    return ", ".join(first) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shown(content: object) -> str:
    if isinstance(content, Mapping):
        return f"it has {some([str(key) for key in content]) or 'nothing'}"
    return f"a {type(content).__name__}"
