"""The ``model.yaml`` that an operator writes. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gradcam_service.explain.activation import Activation
from gradcam_service.explain.methods import DEFAULT, METHODS
from gradcam_service.inputs import INPUTS, Takes
from gradcam_service.kinds import no_such
from gradcam_service.registry.labels import listed
from gradcam_service.registry.sources import SOURCES
from gradcam_service.runtime import RUNTIMES, Precision
from gradcam_service.tasks import TASKS


def _channels_in_schema(schema: dict[str, Any]) -> None:
    """``channels`` may be written here as well; see `Spec`."""
    taken = ["rgb", "bgr", "gray"]
    schema["properties"]["channels"] = {
        "description": "the same as input.channels",
        "anyOf": [{"enum": taken}, {"type": "integer"}],
    }


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of a picture into the pixels that a model receives, in torchvision's terms.

    ``resize`` of the shortest side and ``crop`` of the middle; ``resize: [h, w]`` (stretched), with or without a
    ``crop`` after it; or ``pad`` (the whole picture, its longest side resized to ``pad``, the rest filled with the mean
    colour). ``crop`` is [h, w] or the side of a square.

    Attributes:
        mean: subtracted from pixels in 0–1, of each channel of `Takes`; where it takes several frames, of all of them,
            in ``model.yaml`` mostly those of one.
        std: divided by after that.
        interpolation: nearest, bilinear, bicubic or lanczos.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", json_schema_extra=_channels_in_schema)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    pad: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __post_init__(self) -> None:
        given = {name for name in ("resize", "crop", "pad") if getattr(self, name) is not None}
        if given not in ({"pad"}, {"resize", "crop"}) and (given != {"resize"} or isinstance(self.resize, int)):
            raise ValueError("preprocess takes one of: resize and crop; resize: [h, w]; pad")
        sizes = [getattr(self, name) for name in given]
        if any(side < 1 for size in sizes for side in ([size] if isinstance(size, int) else size)):
            raise ValueError("preprocess takes sizes of at least 1")
        if not len(self.mean) == len(self.std) > 0:
            raise ValueError("preprocess.mean and preprocess.std take one value for each channel")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not all(self.std):
            raise ValueError("preprocess takes a finite mean and a finite std that is not 0")

    @classmethod
    def imagenet(cls, size: tuple[int, int]) -> Preprocess:
        """The preprocessing of most models that were trained on ImageNet, for an input of (height, width)."""
        shortest = round(max(size) * 256 / 224)
        return cls((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), shortest, size)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model receives."""
        size = self.pad or self.crop or self.resize
        assert size is not None
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def geometry(self) -> dict[str, Any]:
        """Keyword arguments of `gradcam_service.images.geometry.prepare`."""
        return {
            "resize": self.resize,
            "crop": self.crop,
            "pad": self.pad,
            "interpolation": self.interpolation,
            "fill": self.fill,
        }

    @property
    def fill(self) -> tuple[int, ...]:
        """The mean colour, 0–255: what padding is filled with."""
        return tuple(round(255 * value) for value in self.mean)


_MOST_FRAMES = 1024


_CHOICES: dict[str, Callable[[], list[str]]] = {
    "source": lambda: list(SOURCES),
    "task": lambda: list(TASKS),
    "runtime": lambda: ["auto", "eager", *RUNTIMES],
    "method": lambda: list(METHODS),
}
"""Fields that name one of a kind, and the names that there are once plugins are loaded."""


class Sample(BaseModel):
    """A picture whose class is known, to check a model with before it answers anybody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(description="a picture beside model.yaml")
    label: int | str = Field(description="the class, by label or index, that must be its most probable one")


class Spec(BaseModel):
    """The content of a ``model.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="model.yaml")

    description: str = Field("", max_length=500, description="what the model is for, in words for those who choose it")
    source: str = Field(description="who builds the model")
    architecture: str | None = Field(
        None,
        description="the builder's name for it; of source python, package.module:factory; "
        "none for onnx, pt2 and transformers, whose files hold it",
    )
    weights: str | None = Field(
        None,
        description="a file beside model.yaml, an http(s):// or s3:// URL, package:NAME/path for one that an installed "
        "Python package carries, a name under which torchvision or timm publishes weights, or random:<seed>; "
        "of onnx and pt2, the model itself; "
        "of python, none for those that the factory returns; of transformers, none for those of the folder",
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="of the weights; checked before use, required for a URL and a package",
    )
    options: dict[str, JsonValue] = Field(
        {},
        description="keyword arguments for the builder of the architecture, such as transform_input: true; "
        "of torchvision, timm and python",
    )
    task: str = Field("classification", description="what the model was trained for")
    activation: Activation = Field(
        "softmax",
        description="what makes probabilities of scores: softmax among them, sigmoid of each by itself; "
        "none for scores as they are; identity, the default of task regression, for values that are no probabilities",
    )
    output: str | int | None = Field(
        None,
        description="which of the model's outputs the scores are, where it has several: an ONNX output's name, a key, "
        "an attribute or an index",
    )
    labels: str | tuple[str, ...] | None = Field(
        None,
        description="a list, or a file beside model.yaml: a label a line, or JSON, a list or "
        '{"0": "cat"}; default: from the weights',
    )
    input: Takes = Field(Takes(), description="what the model takes")
    preprocess: Preprocess | None = Field(None, description="default: from the weights")
    tokenizer: str | None = Field(
        None,
        description="of a model that takes text, too: a file beside model.yaml, tokenizer.json of Hugging Face's "
        "tokenizers, or a vocabulary, a word a line",
    )
    length: int | None = Field(
        None, ge=2, le=1024, description="of such a model: how many tokens its network takes, special ones included"
    )
    layer: str = Field("auto", description="where to explain by default; auto: the last convolution")
    method: str = Field(DEFAULT, description="what explains where a request names no method")
    runtime: str = Field(
        "auto", description="what computes feature maps; auto: eager, then the fastest that computes the same"
    )
    precision: Precision | None = Field(
        None,
        description="that feature maps are computed in: bfloat16 where the device has units for it and the model's "
        "answers stay what they are, auto for the faster of both; default: what GRADCAM_PRECISION says, float32",
    )
    batch: int = Field(8, ge=1, le=1024, description="most images in one forward pass")
    load: Literal["start", "demand"] = Field("start", description="when the model is loaded")
    sample: Sample | None = Field(None, description="checked before the model answers anybody")

    def decisive(self) -> str:
        """What of it decides an answer in float32, as JSON."""
        return self.model_dump_json(exclude={"runtime", "precision", "description"}, exclude_defaults=True)

    @field_validator(*_CHOICES)
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        names = _CHOICES[str(info.field_name)]()
        if name not in names:
            raise ValueError(no_such(name, names))
        return name

    @field_validator("labels", mode="before")
    @classmethod
    def _listed(cls, labels: object) -> object:
        return labels if labels is None or isinstance(labels, str) else tuple(listed(labels))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        for field, names in _CHOICES.items():
            schema["properties"][field]["enum"] = names()
        return schema

    @model_validator(mode="before")
    @classmethod
    def _channels_of_input(cls, given: Any) -> Any:  # noqa: ANN401  what YAML holds
        """``preprocess: {channels: bgr}`` means ``input: {channels: bgr}``, which is its place."""
        preprocess = given.get("preprocess") if isinstance(given, dict) else None
        if not isinstance(preprocess, dict) or "channels" not in preprocess:
            return given
        channels, takes = preprocess["channels"], given.get("input") or {}
        if not isinstance(takes, dict) or takes.get("channels", channels) != channels:
            raise ValueError("input.channels and preprocess.channels say different things; input.channels is enough")
        kept = {name: value for name, value in preprocess.items() if name != "channels"}
        return {**given, "preprocess": kept, "input": {**takes, "channels": channels}}

    @model_validator(mode="before")
    @classmethod
    def _frames_alike(cls, given: Any) -> Any:  # noqa: ANN401  likewise
        """The mean and standard deviation of a frame are those of all frames."""
        takes, preprocess = (given.get(name) if isinstance(given, dict) else None for name in ("input", "preprocess"))
        if not isinstance(takes, dict) or not isinstance(preprocess, dict):
            return given
        frames, channels = takes.get("frames", 1), takes.get("channels", "rgb")
        of_frame = {"gray": 1}.get(channels, 3) if isinstance(channels, str) else channels
        if not isinstance(frames, int) or frames < 1 or frames > _MOST_FRAMES:
            return given
        alike = {
            name: values * frames
            for name in ("mean", "std")
            if isinstance(values := preprocess.get(name), list) and len(values) == of_frame
        }
        return {**given, "preprocess": preprocess | alike}

    @model_validator(mode="before")
    @classmethod
    def _activation_of_task(cls, written: Any) -> Any:  # noqa: ANN401  whatever the file holds
        """A task whose first activation isn't the usual one has that one by default."""
        task = written.get("task") if isinstance(written, dict) else None
        if not isinstance(task, str) or "activation" in written or task not in TASKS:
            return written
        usual, *_ = TASKS[task].activations
        return written if usual == cls.model_fields["activation"].default else {**written, "activation": usual}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.activation not in (known := TASKS[self.task].activations):
            others = " or ".join(task for task in TASKS if self.activation in TASKS[task].activations)
            raise ValueError(
                f"activation {self.activation} goes with task {others}; task {self.task} takes {' or '.join(known)}"
            )
        if self.sample and "softmax" not in known:
            raise ValueError(f"task {self.task} takes no sample, which names the most probable class")
        if TASKS[self.task].text is None:
            if self.tokenizer is not None or self.length is not None:
                raise ValueError(f"task {self.task} takes no text, and no tokenizer or length of it")
        elif self.tokenizer is None or self.length is None:
            raise ValueError(f"task {self.task} needs tokenizer, a file, and length, how many tokens its network takes")
        elif self.sample is not None:
            raise ValueError(f"task {self.task} takes no sample, which is a picture alone")
        if self.input.reader not in INPUTS:
            raise ValueError(f"input.kind: {no_such(self.input.kind, INPUTS)}")
        source = SOURCES[self.source]
        if source.architecture is False and self.architecture is not None:
            raise ValueError(f"source {self.source} takes no architecture; its file holds it")
        if source.architecture and self.architecture is None:
            raise ValueError(f"source {self.source} needs an architecture")
        if source.weights and self.weights is None:
            raise ValueError(f"source {self.source} needs weights")
        if source.architecture is False and str(self.weights).startswith("random:"):
            raise ValueError(f"source {self.source} takes a file as weights, not {self.weights}")
        if self.output is not None and not source.output:
            raise ValueError(f"source {self.source} takes no output")
        if self.options and not source.options:
            raise ValueError(f"source {self.source} takes no options")
        if self.preprocess and (values := len(self.preprocess.mean)) != self.input.count:
            raise ValueError(f"mean and std have {values} values, but the input {self.input.count} channels")
        return self
