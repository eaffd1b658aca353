"""What callers send and receive, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gradcam_service.images.colormaps import COLORMAPS


def _listed(value: object) -> object:
    """A single value for an option that may be repeated."""
    return value if value is None or isinstance(value, list) else [value]


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


class PredictOptions(_Options):
    """Options of ``/predict``."""

    model: str | None = Field(None, description="`name`, `name@version` or `name@alias`; default from the settings")
    top_k: int = Field(5, ge=1, le=1000, description="how many classes to report, the most probable first")
    timeout_ms: int | None = Field(
        None, ge=1, le=600_000, description="give up after this many milliseconds; default from the settings"
    )


class MethodOptions(_Options):
    """What single methods take; the text after the semicolon is the default."""

    gamma: float | None = Field(None, ge=0, le=10, description="finercam: how much of similar classes is taken away; 1")
    references: int | None = Field(None, ge=1, le=100, description="finercam: how many similar classes; 3")
    steps: int | None = Field(None, ge=2, le=1000, description="integrated_gradients: points of the quadrature; 50")
    samples: int | None = Field(None, ge=1, le=1000, description="smoothgrad: noisy copies; 25")
    noise: float | None = Field(None, ge=0, le=1, description="smoothgrad: noise as a share of the range; 0.15")
    window: int | None = Field(None, ge=1, le=512, description="occlusion: side of the window, input pixels; 32")
    stride: int | None = Field(None, ge=1, le=512, description="occlusion: step of the window, at most its side; 16")
    masks: int | None = Field(None, ge=1, le=100_000, description="rise: how many masks; 1000")
    cells: int | None = Field(None, ge=2, le=64, description="rise: cells along a side of a mask; 7")
    keep: float | None = Field(None, gt=0, le=1, description="rise: share of cells that stay; 0.5")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="smoothgrad, rise: of what is random; 0")

    @model_validator(mode="after")
    def _windows_overlap(self) -> Self:
        if (self.stride or 16) > (self.window or 32):
            raise ValueError("stride must be at most window, or parts of the image would never be covered")
        return self


class ExplainOptions(PredictOptions, MethodOptions):
    """Options of ``/explain``."""

    method: str = Field("gradcam", description="one of the model's `methods`")
    target: Annotated[list[StrictInt | StrictStr] | None, BeforeValidator(_listed)] = Field(
        None, description="class index or label, repeatable; default: the top-1 class of each image"
    )
    layer: str = Field("auto", description="`auto` (the last convolutional layer) or one of the model's `layers`")
    output: Annotated[list[Literal["heatmap", "overlay", "map"]] | None, BeforeValidator(_listed)] = Field(
        None, min_length=1, description="what to return, repeatable; default: `heatmap`"
    )
    format: Literal["png", "jpeg", "webp"] = Field("jpeg", description="of the overlay; a heatmap is always a PNG")
    colormap: Literal[COLORMAPS] = Field("turbo", description="from cold to hot")  # type: ignore[valid-type]
    alpha: float = Field(0.5, ge=0, le=1, description="strength of the overlay")
    size: Literal["image", "input", "map"] = Field(
        "image", description="of the pictures: the original's, what the model sees, or the map's own"
    )
    max_side: int = Field(1024, ge=16, le=4096, description="longest side of a picture of size `image`, pixels")
    boxes: bool = Field(False, description="also return the box around the hottest area")
    threshold: float = Field(0.15, gt=0, le=1, description="share of the map's maximum that counts as hot, for the box")

    @property
    def method_options(self) -> dict[str, int | float]:
        """The options of the method itself that are given."""
        return {name: value for name in MethodOptions.model_fields if (value := getattr(self, name)) is not None}

    @property
    def outputs(self) -> list[str]:
        """What to return for each target."""
        return list(self.output or ["heatmap"])


class Prediction(BaseModel):
    """One class and how the model scores it."""

    index: int
    label: str
    logit: float = Field(description="the score before the activation")
    probability: float = Field(description="the score after it: softmax, or sigmoid for a multi-label model")


class Target(Prediction):
    """The class that is explained."""

    chosen: Literal["request", "top-1"]


class PictureBody(BaseModel):
    """An encoded picture."""

    media_type: str
    width: int
    height: int
    data: str = Field(description="base64")


class MapBody(BaseModel):
    """The raw map, after the method's own ReLU, neither resized nor normalised.

    In logit units, but where the method says otherwise.
    """

    shape: list[int] = Field(description="h, w; or H, W, 3 of methods that explain the input's colours, signed")
    dtype: Literal["float32"] = "float32"
    data: str = Field(description="base64 of little-endian values, row by row")


class ExplanationBody(BaseModel):
    """Where the model looks for one target."""

    target: Target
    method: str
    layer: str = Field(description="the layer explained; `input` of methods that no layer has a part in")
    region: tuple[float, float, float, float] = Field(
        description="x0, y0, x1, y1 of what the model saw, in the original's pixels; beyond the picture where it pads"
    )
    max: float = Field(description="the map's maximum, logit units")
    empty: bool = Field(description="whether the map is zero everywhere: nothing speaks for this class")
    heatmap: PictureBody | None = None
    overlay: PictureBody | None = None
    map: MapBody | None = None
    boxes: list[tuple[int, int, int, int]] | None = Field(
        None, description="x0, y0, x1, y1 around the largest hot area, in the original's pixels; x1, y1 exclusive"
    )


class Problem(BaseModel):
    """What was wrong and what would work (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="one sentence, for people")
    request_id: str


class PredictResult(BaseModel):
    """What the model says about one image, or why there is no answer."""

    predictions: list[Prediction] | None = None
    error: Problem | None = Field(
        default=None, description="in a request of several images: what is wrong with this one"
    )


class ExplainResult(PredictResult):
    """What the model says about one image and where it looks, or why there is no answer."""

    explanations: list[ExplanationBody] | None = None


class AnsweringModel(BaseModel):
    """The model that answered."""

    name: str
    version: str
    digest: str
    weights: str


class PredictResponse(BaseModel):
    """Answer of ``/predict``: one result for each image, in order."""

    request_id: str
    model: AnsweringModel
    results: list[PredictResult]


class ExplainResponse(BaseModel):
    """Answer of ``/explain``: one result for each image, in order."""

    request_id: str
    model: AnsweringModel
    results: list[ExplainResult]


class LayerBody(BaseModel):
    """A layer that can be explained: its name and its maps' shape."""

    name: str
    shape: list[int] = Field(description="K, h, w")


class InputBody(BaseModel):
    """What the model receives."""

    width: int
    height: int


class ModelBody(BaseModel):
    """A model version, and what it can do once it is ready."""

    name: str
    version: str
    aliases: list[str]
    state: Literal["unloaded", "loading", "ready", "failed"]
    reason: str | None = Field(None, description="why it failed; of a ready model, why its newer content did")
    source: str | None = Field(None, description="who built it")
    task: str | None = None
    activation: str | None = None
    input: InputBody | None = None
    classes: int | None = None
    layer: LayerBody | None = Field(None, description="what `auto` means")
    methods: list[str] | None = None
    digest: str | None = None
    weights: str | None = None
    memory: int | None = Field(None, description="bytes of its parameters")
    runtime: str | None = Field(None, description="what computes its feature maps")
    device: list[str] | None = None


class MethodBody(BaseModel):
    """An explanation method, as it applies to a model."""

    name: str
    forward_passes: int = Field(description="cost for one target with default options; a backward pass counts as two")
    options: dict[str, int | float] = Field(description="its own options and their defaults")
    refused: str | None = Field(None, description="why it can't explain this model")


class ModelDetail(ModelBody):
    """Everything about a model version."""

    method_details: list[MethodBody] | None = None

    labels: list[str] | None = None
    layers: list[LayerBody] | None = None
    preprocess: dict[str, Any] | None = None


class ModelList(BaseModel):
    """Every model version in the repository."""

    default: str
    models: list[ModelBody]


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "not ready"]
    version: str
    devices: dict[str, Literal["up", "down"]]
    models: dict[str, str] = Field(description="state by `name@version`")
