"""Options of requests, each checked on its own and all together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)

from gradcam_service.errors import TooLarge, TooManyTargets
from gradcam_service.explain.method import Option
from gradcam_service.explain.methods import METHODS
from gradcam_service.images.colormaps import COLORMAPS
from gradcam_service.images.scale import CLIP
from gradcam_service.inputs import Sent
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.card import Card
from gradcam_service.targets import TARGETS
from gradcam_service.tasks import TASKS


def _listed(value: object) -> object:
    """A single value for an option that may be repeated."""
    return value if value is None or isinstance(value, list) else [value]


_Strength = Annotated[float, Field(gt=0, le=3e38, allow_inf_nan=False)]
"""A map's value: what float32 can hold."""


def _scale(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValueError:
        meant = did_you_mean(value, ("own", "shared"))
        raise ValueError(f"must be own, shared{meant} or a number above 0, the value of the strongest colour") from None


def _targets(value: object) -> object:
    listed = _listed(value)
    if isinstance(listed, list) and any(isinstance(one, list) for one in listed):
        raise ValueError("a target is no list: all of them are explained in every image of a request")
    return listed


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_not_true(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic takes either for the other; the published schema doesn't."""
        if cls.model_fields[info.field_name or ""].annotation is bool:
            if str(value).lower() not in ("true", "false"):
                raise ValueError("must be true or false")
        elif isinstance(value, bool):
            raise ValueError("can't be true or false")
        return value


def _size(value: object) -> object:
    if str(value).isdigit():
        raise ValueError("must be 'image', 'input' or 'map'; max_side sets the longest side in pixels")
    return value


def _text_options() -> dict[str, Any]:
    """A field for the text of each task whose models take one."""
    options = [task.text for task in TASKS.values()]
    return {own.name: (StrictStr | None, Field(None, description=own.description)) for own in options if own}


def _task_numbers() -> dict[str, Any]:
    """A field for each number that models of a task are asked with."""
    known = {name: option for task in TASKS.values() for name, option in task.options.items()}
    return {
        name: (int | None, Field(None, ge=of.ge, le=of.le, description=of.description)) for name, of in known.items()
    }


_TextOptions = create_model("_TextOptions", __base__=_Options, **_text_options())
_TaskOptions = create_model("_TaskOptions", __base__=_TextOptions, **_task_numbers())

TEXT_OPTIONS = tuple(_TextOptions.model_fields)
"""Names of the options that give models their text."""
TASK_OPTIONS = tuple(_TaskOptions.model_fields)
"""Names of all options that only models of some tasks have."""


class PredictOptions(_TaskOptions):
    """Options of ``/predict``."""

    model: str | None = Field(None, description="`name`, `name@version` or `name@alias`; default from the settings")
    top_k: int = Field(5, ge=1, le=1000, description="how many classes to report, the most probable first")
    timeout_ms: int | None = Field(
        None, ge=1, le=600_000, description="give up after this many milliseconds; default from the settings"
    )

    @property
    def texts(self) -> dict[str, str]:
        """The texts that are given, by the names of their options."""
        return self._given(TEXT_OPTIONS)

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers that are given for models of some tasks, by the names of their options."""
        return self._given([name for name in TASK_OPTIONS if name not in TEXT_OPTIONS])

    def _given(self, names: Iterable[str]) -> dict[str, Any]:
        values = ((name, getattr(self, name)) for name in names)
        return {name: value for name, value in values if value is not None}

    @model_validator(mode="before")
    @classmethod
    def _explains_nothing(cls, given: object) -> object:
        theirs = ExplainOptions.model_fields.keys() - cls.model_fields.keys()  # empty for /explain itself
        if isinstance(given, dict) and (strange := sorted(given.keys() & theirs)):
            own = sorted(cls.model_fields, key=TASK_OPTIONS.__contains__)  # those of single tasks last
            raise ValueError(f"{strange[0]!r} is an option of /explain; /predict has {', '.join(own)}")
        return given


def _method_options() -> dict[str, Any]:
    """A field for each option of any method, with the default of each method in its description.

    Where methods differ in an option's type or range, the field has the widest; `Card.check_question` knows each one's.
    """
    takers: dict[str, dict[str, Option]] = defaultdict(dict)
    for method in METHODS:
        for name, option in METHODS[method].options.items():
            takers[name][method] = option
    return {name: _method_option(of) for name, of in takers.items()}


def _method_option(of: dict[str, Option]) -> tuple[Any, Any]:
    options = list(of.values())
    kind = int if all(isinstance(option.default, int) for option in options) else float
    ranges = {edge: [getattr(option, edge) for option in options] for edge in ("ge", "gt", "le")}
    widest = {edge: (max if edge == "le" else min)(values) for edge, values in ranges.items() if None not in values}
    said = (f"{method}: {option.description}; {option.default}" for method, option in of.items())
    return kind | None, Field(None, description=". ".join(said), **widest)


_MethodOptions = create_model("_MethodOptions", __base__=_Options, **_method_options())

METHOD_OPTIONS = tuple(_MethodOptions.model_fields)
"""Names of the options that single methods have."""

_TargetObject = Annotated[
    dict[str, Any],
    WithJsonSchema({"oneOf": [kind.schema for kind in TARGETS.values() if kind.schema.get("type") == "object"]}),
]


class ExplainOptions(PredictOptions, _MethodOptions):
    """Options of ``/explain``, those of single methods among them."""

    method: str | None = Field(None, description="one of the model's `methods`; default: the model's `method`")
    target: Annotated[list[StrictInt | StrictStr | _TargetObject] | None, BeforeValidator(_targets)] = Field(
        None,
        description="what to explain, repeatable; default: the top-1 class of each image. "
        f"{'; '.join(kind.schema['description'] for kind in TARGETS.values())}; "
        "in form fields and queries, objects are JSON text",
    )
    layer: str = Field(
        "auto",
        description="`auto` (the last convolutional layer), one of the model's `layers`, or any module with a spatial "
        "extent inside of them, such as `layer4.1.conv2`",
    )
    output: Annotated[list[Literal["heatmap", "overlay", "map"]] | None, BeforeValidator(_listed)] = Field(
        None, min_length=1, max_length=3, description="what to return, repeatable; default: `heatmap`"
    )
    format: Literal["png", "jpeg", "webp"] = Field("jpeg", description="of the overlay; a heatmap is always a PNG")
    colormap: Literal[COLORMAPS] | None = Field(  # type: ignore[valid-type]
        None, description="from cold to hot, or with 0 in its middle; default: `turbo`, for signed maps `coolwarm`"
    )
    clip: float = Field(
        CLIP, gt=0, le=1, description="of a signed map: share of the |values| that its own scale holds; 1: all"
    )
    scale: Annotated[Literal["own", "shared"] | _Strength, WrapValidator(_scale)] = Field(
        "own",
        description="the value of the strongest colour: each map's `own`, the largest of the request (`shared`), or a "
        "number; where it isn't the map's own, 0 is the weakest colour of an unsigned map",
    )
    legend: bool = Field(False, description="draw the scale, with its values, beside an overlay")
    alpha: float = Field(0.5, ge=0, le=1, description="strength of the overlay")
    blend: Literal["even", "level"] | None = Field(
        None,
        description="how far the colours hide what is below them: `level`, the more the stronger the map, so that cold "
        "areas stay clear; `even`, alike all over what the model saw; default: `even` of overlays, `level` of heatmaps",
    )
    outline: bool = Field(
        False, description="draw a dashed line around what the model saw on an overlay, where that isn't all of it"
    )
    size: Annotated[Literal["image", "input", "map"], BeforeValidator(_size)] = Field(
        "image", description="of the pictures: the original's, what the model sees, or the map's own"
    )
    max_side: int = Field(1024, ge=16, le=4096, description="longest side of a picture of size `image`, pixels")
    boxes: bool = Field(False, description="also return the box around the hottest area")
    threshold: float = Field(0.15, gt=0, le=1, description="share of the map's maximum that counts as hot, for the box")
    quality: bool = Field(
        False,
        description="also measure each map: areas under its deletion and its insertion curve, and its rank correlation "
        "with another method's; many forward passes",
    )
    quality_steps: int = Field(20, ge=1, le=100, description="of each curve; a forward pass each")
    quality_against: str | None = Field(
        None, description="the other method, with its default options; default: `gradcam`, of which it is `layercam`"
    )

    def explained_by(self, card: Card) -> str:
        """The name of the method that explains a model: the one named here, else the model's own."""
        return card.method if self.method is None else self.method

    @property
    def method_options(self) -> dict[str, int | float]:
        """The options of the method itself that are given."""
        given = self.model_fields_set.intersection(METHOD_OPTIONS)
        return {name: value for name in METHOD_OPTIONS if name in given and (value := getattr(self, name)) is not None}

    @property
    def outputs(self) -> list[str]:
        """What to return for each target."""
        return list(self.output or ["heatmap"])


def alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas any of which a value of an option's schema may be of: each an ``enum`` or of one ``type``.

    A list of words is taken for one of them, as it is written in a query; null is left out, as it can't be.
    """
    for kind in schema.get("anyOf", [schema]):
        one = kind["items"] if "enum" in kind.get("items", ()) else kind
        if "const" in one:
            yield {**one, "enum": [one["const"]]}
        elif one.get("type") != "null":
            yield one


def check_image_count(count: int, most: int, called: str = "images") -> None:
    """Refuse more images in a request than are accepted.

    Raises:
        TooLarge: there are more than ``most``.
    """
    if count > most:
        raise TooLarge(f"{count} {called} in one request; at most {most} are accepted")


def check_target_count(count: int, most: int) -> None:
    """Refuse more targets of an image than are accepted.

    Raises:
        TooManyTargets: there are more than ``most``.
    """
    if count > most:
        raise TooManyTargets(f"{count} targets in one request; at most {most} are accepted")


Options = TypeVar("Options", bound=PredictOptions)


Image: TypeAlias = Sent


@dataclass(frozen=True, eq=False)
class Call(Generic[Options]):
    """A request: its images, with the same options for each or with its own.

    Attributes:
        images: at least one.
        options: validated; the model and the deadline are those of all images.
        own: options of each image, where they differ.
    """

    images: Sequence[Image]
    options: Options
    own: Sequence[Options] | None = None
