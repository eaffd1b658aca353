"""The program beside an exported file: what the file's model sees in a picture and where, without this package."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, StrictUndefined

from gradcam_service.explain.activation import UNCHANGED
from gradcam_service.inputs import Takes
from gradcam_service.registry.spec import Preprocess
from gradcam_service.tasks import TASKS

_WRITTEN = "Written by `gradcam export`."
"""What the first line of every such program ends with."""
_UNFIT = {
    "float": ('numbers.dtype.kind not in "uif" or not np.isfinite(numbers).all()', "finite numbers"),
    "range": ('numbers.dtype.kind not in "ui"', "integers"),
    "bits": ('numbers.dtype.str[1:] not in ("u1", "u2")', "uint8 or uint16"),
}
"""Which numbers a model doesn't take, as an expression, and which it does, in words."""


class Described(Protocol):
    """Description of a model, as far as the program depends on it: its card, or a ``model.yaml`` that says all this."""

    @property
    def input(self) -> Takes:
        """What it takes."""

    @property
    def preprocess(self) -> Preprocess:
        """How a picture is brought to its size."""

    @property
    def task(self) -> str:
        """What its scores are of."""

    @property
    def activation(self) -> str:
        """What makes probabilities of them."""


def is_ours(file: Path) -> bool:
    """Whether a file is such a program, which may be written again."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        return _WRITTEN in lines.readline()


def program_for(name: str, key: str, model: Described) -> str:
    """The source of a program that asks ``<name>.onnx`` about a picture as the service would be asked.

    It reads and prepares pictures as `gradcam_service.inputs` does for this model, and has nothing in it that the model
    doesn't need. What is rarer than colours of 8 bits and plain gray of 16 it refuses; a model of bands has them from
    ``.npy`` files alone.

    Args:
        name: of the file and the program, without their suffixes.
        key: ``name@version`` of the model.
        model: that the file holds.
    """
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath("program.py.jinja").read_text("utf-8"))
    name, key = (re.sub(r'["\\\r\n]', "_", text) for text in (name, key))  # which a docstring can't have in it
    described = _input(model) | _geometry(model) | _answers(model)
    return template.render(name=name, key=key, written=_WRITTEN, **described)


def _input(model: Described) -> dict[str, Any]:
    """How the numbers of a picture are read, and normalised."""
    takes, preprocess = model.input, model.preprocess
    in_levels, blue_first = takes.reader == "picture", takes.channels == "bgr"
    photographs = isinstance(takes.channels, str)
    unfit, fit = _UNFIT[takes.depth if takes.depth == "float" else "range" if takes.range else "bits"]
    fill = [round(255 * value) for value in preprocess.mean] if in_levels else list(preprocess.mean)
    return {
        "in_levels": in_levels,
        "reads_photographs": photographs,
        "sample": "photo.jpg" if photographs else "bands.npy",
        "channels": takes.count,
        "blue_first": blue_first,
        "depth": takes.depth,
        "range": takes.range,
        "unfit": unfit,
        "fit": fit,
        "as_they_are": takes.depth == "float" and not takes.range,
        "shown": [0, 1, 2] if blue_first else list(takes.shown),
        "mean": _short(preprocess.mean),
        "std": _short(preprocess.std),
        "normalises": any(preprocess.mean) or set(preprocess.std) != {1.0},
        "fill": fill[::-1] if blue_first else fill,
    }


def _geometry(model: Described) -> dict[str, Any]:
    """Where the model looks: sizes are width and height here, as Pillow has them."""
    preprocess = model.preprocess
    height, width = preprocess.input_size
    resize = preprocess.resize
    stretched = None if resize is None or isinstance(resize, int) else (resize[1], resize[0])
    least = (resize, resize) if isinstance(resize, int) else stretched or (0, 0)
    return {
        "width": width,
        "height": height,
        "pad": preprocess.pad,
        "crop": preprocess.crop is not None,
        "shorter": resize if isinstance(resize, int) else None,
        "stretched": stretched,
        "may_be_smaller": least[0] < width or least[1] < height,
        "interpolation": preprocess.interpolation.upper(),
    }


def _answers(model: Described) -> dict[str, Any]:
    """What the scores are."""
    entries = TASKS[model.task].entries
    return {
        "values": entries.values,
        "activation": "none" if model.activation in UNCHANGED else model.activation,
        "noun": entries.one,
        "nouns": entries.several,
        "first": "0" if entries.values else "",
    }


def _short(values: tuple[float, ...]) -> list[float] | float:
    """One number where all are the same."""
    return values[0] if len(set(values)) == 1 else list(values)
