"""Bodies that callers receive besides results, field by field."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gradcam_service.maps import MapKind


class Problem(BaseModel):
    """Problem (RFC 9457): what was wrong and what would work."""

    model_config = ConfigDict(extra="allow", from_attributes=True)

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="stable, for programs")
    detail: str = Field(description="one sentence, for people")
    request_id: str


class AnsweringModel(BaseModel):
    """The model that answered."""

    name: str
    version: str
    digest: str = Field(description="sha256:… of all that decides an answer, `precision` included")
    weights: str
    runtime: str = Field(description="what computed the feature maps")
    precision: str = Field(description="that it computed them in: float32 or bfloat16")


class LayerBody(BaseModel):
    """A layer that can be explained: its name and its maps' shape."""

    name: str
    shape: list[int] = Field(description="K, h, w")


class InputBody(BaseModel):
    """Input of a model: its size, channels and depth, and what it is made of."""

    width: int
    height: int
    channels: int = Field(description="3 of colours, 1 of shades, or how many bands; of one frame")
    frames: int | None = Field(None, description="how many pictures are one input, oldest first, where several are")
    depth: Literal[8, 16] | Literal["float"] = Field(
        description="bits of a number, which is scaled to 0–1; float: as it is"
    )
    range: tuple[float, float] | None = Field(
        None, description="the numbers that become 0 and 1, where not those of the depth"
    )
    media_types: list[str] = Field(description="what may be sent")
    endings: list[str] = Field(description="of names of files of it that a browser doesn't know by the media types")


class TextBody(BaseModel):
    """Text that a model takes beside a picture."""

    option: str = Field(description="the option of a request that it goes into")
    required: bool = Field(description="whether there is no answer without it")
    spoken: bool = Field(description="whether it is what the model itself says otherwise: a caption")
    label: str = Field(description="of a field for it")
    action: str = Field(description="of a button beside that")
    back: str = Field(description="of a button that returns to what the model itself says; empty for none")


class EntriesBody(BaseModel):
    """What a model's results list, each of which can be explained."""

    one: str = Field(description="what an entry is called: class, word, action")
    several: str = Field(description="what several are")
    title: str = Field(description="of a list of them")
    member: str = Field(
        description="of a result, that holds the list: `predictions`, or `words` in it as `caption.words`"
    )
    target: str = Field(
        description='the name of an entry\'s index in a target, as `word` in `{"word": 4}`; empty where its index is a '
        "target by itself"
    )
    beside: str = Field(
        description='what a result\'s own `value` is called, whose target is `{"output": "value"}`; empty for none'
    )
    values: bool = Field(description="whether each has a `value`, and no probability")
    compared: bool = Field(description="whether one can be explained against others")


class ModelBody(BaseModel):
    """A model version, and what it can do once it is ready."""

    name: str
    version: str
    description: str | None = Field(None, description="what it is for, as its model.yaml says")
    aliases: list[str]
    state: Literal["unloaded", "loading", "ready", "failed"]
    reason: str | None = Field(
        None,
        description="why it failed, or what its load waits for; of a ready model, the same of its newer content, or "
        "what the full model waits for where its compiled form answers",
    )
    notes: list[str] | None = Field(None, description="aliases that can't move away from it, or to it, and why")
    source: str | None = Field(None, description="who built it")
    task: str | None = None
    activation: str | None = None
    input: InputBody | None = None
    entries: EntriesBody | None = Field(None, description="what its results list, each of which can be explained")
    text: TextBody | None = Field(None, description="what of text it takes beside a picture, where it does")
    classes: int | None = None
    layer: LayerBody | None = Field(None, description="what `auto` means")
    methods: list[str] | None = None
    method: str | None = Field(None, description="what explains where a request names none")
    digest: str | None = None
    weights: str | None = None
    memory: int | None = Field(
        None, description="bytes of its parameters, and of those that its runtime holds once more"
    )
    runtime: str | None = Field(None, description="what computes its feature maps")
    precision: str | None = Field(None, description="that it computes them in: float32 or bfloat16")
    torch: str | None = Field(None, description="the version of torch that computes the rest")
    device: list[str] | None = None


class MethodBody(BaseModel):
    """An explanation method, as it applies to a model."""

    name: str
    title: str = Field(description="its name in the literature")
    summary: str = Field(description="what its map shows, in plain words; `{target}` stands for what is explained")
    paper: str = Field(description="where it was published")
    kind: MapKind = Field(description="of the maps of a class; see an explanation's `kind`")
    forward_passes: int = Field(description="cost for one target with default options; a backward pass counts as two")
    options: dict[str, int | float] = Field(description="its own options and their defaults")
    refused: str | None = Field(None, description="why it can't explain this model")


class CheckBody(BaseModel):
    """A check of a model at its load."""

    model_config = ConfigDict(from_attributes=True)

    name: Literal["finite", "repeatable", "independent", "logits", "gradient"]
    passed: bool
    detail: str = Field(description="what was found; empty where nothing was")


class ModelDetail(ModelBody):
    """Everything about a model version."""

    method_details: list[MethodBody] | None = None

    labels: list[str] | None = None
    layers: list[LayerBody] | None = Field(
        None, description="those that every path crosses, from the image to the scores"
    )
    inner_layers: list[str] | None = Field(None, description="names of all others, inside of blocks and branches")
    preprocess: dict[str, Any] | None = None
    checks: list[CheckBody] | None = Field(None, description="what was looked at when the model was loaded")


class ModelList(BaseModel):
    """Every model version in the repository."""

    default: str
    models: list[ModelBody]


class Health(BaseModel):
    """State of the service, its devices and its models."""

    status: Literal["ok", "not ready"]
    version: str
    devices: dict[str, Literal["up", "down"]]
    models: dict[str, str] = Field(description="state by `name@version`")
