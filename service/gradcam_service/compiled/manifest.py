"""Manifest of a compiled model's folder: ``compiled.json``, and the files that it names. Torch-free.

A cut is two or three ONNX models, of forward operators alone:

    image, the network's other inputs are the head's ──backbone──▶ A, other live values
    A, other live values, other inputs ──head──▶ scores
    A, other live values, other inputs, objective (M, outputs) ──gradient──▶ d(objective · scores)/dA (M, K, h, w)

so that a class, a contrast or Finer-CAM is one vector, found once the scores are known; an image passes the backbone
once, whatever is asked about it; and the head computes in float32 where the backbone doesn't. Where the head is global
average pooling → linear, the gradient is a row of its weights. The tensors of all are in one file, each once.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.layout import Frame, Layout
from gradcam_service.registry.card import Card
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.kept import contents

NAME = "compiled.json"
WEIGHTS = "weights.bin"


class StoredArray(msgspec.Struct, frozen=True):
    """A float32 array in `WEIGHTS`: from which byte, and its shape."""

    offset: int
    shape: tuple[int, ...]


class CompiledLayer(msgspec.Struct, frozen=True):
    """A layer that the model was compiled at.

    Attributes:
        name: as requests name it.
        channels: K.
        axis: dimension of the channels in the backbone's first output; see `gradcam_service.explain.layout.Layout`.
        grid: (h, w) as it lies in memory.
        prefix: tokens before those of the grid.
        transposed: whether rows are columns.
        mirrored: axes that run backwards.
        axes: of the other live values, see `gradcam_service.explain.frontier.Frontier`.
        backbone: file of this graph.
        head: likewise.
        gradient: likewise; empty where there is none.
        weight: of a head that is global average pooling → linear, (classes, K).
    """

    name: str
    channels: int
    axis: int
    grid: tuple[int, int]
    prefix: int
    transposed: bool
    mirrored: tuple[int, ...]
    axes: tuple[int | None, ...]
    backbone: str
    head: str
    gradient: str = ""
    weight: StoredArray | None = None

    @property
    def layout(self) -> Layout:
        """How its feature maps lie."""
        return Layout(self.axis, self.grid, self.prefix, Frame(self.transposed, frozenset(self.mirrored)))


class Manifest(msgspec.Struct, frozen=True):
    """The content of ``compiled.json``.

    Attributes:
        model: ``name@version`` of what it was made from.
        made_by: versions of gradcam-service and torch that made it.
        made_of: SHA-256 of each file of that, and of what of its ``model.yaml`` decides an answer.
        card: what that says of itself.
        layers: the default one first.
        outputs: how many scores there are, values included.
        positions: of words, at how many places each has a score.
        values: how many of the outputs, the last, are values beside those of classes.
        others: names of the inputs beside the image.
        refused: methods that can't explain it, and why.
        files: SHA-256 of each file.
    """

    model: str
    made_by: str
    made_of: dict[str, str]
    card: Card
    layers: Annotated[tuple[CompiledLayer, ...], msgspec.Meta(min_length=1)]
    outputs: int
    positions: Annotated[int, msgspec.Meta(ge=1)]
    values: int
    others: tuple[str, ...]
    refused: dict[str, str]
    files: dict[str, str]


_decode = msgspec.json.Decoder(Manifest).decode


def read(folder: ModelFolder) -> Manifest:
    """The manifest of a folder, all of whose files are as they were written.

    Raises:
        ModelFailed: one is missing, damaged or elsewhere, or it is no manifest.
    """
    try:
        manifest = _decode(folder.file("source compiled:", NAME).read_bytes())
        for name, digest in manifest.files.items():
            if sha256(folder.file("source compiled:", name)) != digest:
                raise ModelFailed(f"{name} is not what gradcam compile wrote; compile the model again")
        graphs = {name for layer in manifest.layers for name in (layer.backbone, layer.head, layer.gradient) if name}
        if strange := sorted(graphs - manifest.files.keys()):
            raise ModelFailed(f"{NAME} has no digest of {', '.join(strange)}; compile the model again")
    except OSError as error:
        raise ModelFailed(f"{Path(error.filename or NAME).name} can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ModelFailed(f"{NAME} is not what gradcam compile writes: {error}") from error
    return manifest


def decisive(folder: ModelFolder) -> dict[str, str]:
    """SHA-256 of each file of a model, and of what of its ``model.yaml`` decides an answer, by name.

    Raises:
        ModelFailed, OSError: one can't be read.
    """
    return {"model.yaml": hashlib.sha256(folder.spec.decisive().encode()).hexdigest(), **contents(folder)}


def sha256(file: Path) -> str:
    """Hex SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def array(folder: Path, stored: StoredArray) -> np.ndarray:
    """An array of `WEIGHTS`, in memory: a mapped file that somebody cuts short ends the process that reads it.

    Raises:
        ValueError: the file doesn't hold it.
    """
    values = np.fromfile(folder / WEIGHTS, np.float32, math.prod(stored.shape), offset=stored.offset)
    return values.reshape(stored.shape)
