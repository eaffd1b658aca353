"""Answers, as Python has them: NumPy maps, Pillow pictures, and an error where there is none."""

from __future__ import annotations

import io
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import msgspec

from gradcam_service.client.errors import Problem, ProblemBody, problem
from gradcam_service.maps import MapKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class AnsweringModel(msgspec.Struct, frozen=True):
    """The model that answered.

    Attributes:
        runtime: what computed its feature maps.
        precision: that it computed them in, ``float32`` or ``bfloat16``.
    """

    name: str
    version: str
    digest: str
    weights: str
    runtime: str
    precision: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One class and how the model scores it, or one value that a regressor gives.

    Attributes:
        index: of the class, or the value.
        label: its name.
        logit: the class's score before the activation; NaN of a regressor.
        probability: the score after it; NaN of a regressor.
        value: what a regressor gives, in the units it was trained for; NaN of a classifier.
    """

    index: int
    label: str
    logit: float = math.nan
    probability: float = math.nan
    value: float = math.nan


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a caption.

    Attributes:
        index: its place, from 0.
        word: itself.
        logit: its score, given the words before it.
        log_probability: natural logarithm, likewise.
    """

    index: int
    word: str
    logit: float
    log_probability: float


class Caption(msgspec.Struct, frozen=True, kw_only=True):
    """A text and its words.

    Attributes:
        text: all of it.
        words: in their order.
        log_probability: the sum of theirs.
    """

    text: str
    words: list[Word]
    log_probability: float


class ExplainedTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Target that was explained: a class, answer or action, one against others, a value, or a word of a caption.

    Attributes:
        label: its name: that of the class, the word itself, or ``value`` of a state's value.
        index: of the class or value, or the word's place in its caption; None of a state's value.
        chosen: who chose it: the ``request``, the model's scores (``top-1``), task (``default``) or ``caption``.
        logit: its score before the activation; NaN of a value.
        probability: the score after it; NaN of a value, and of a word.
        value: a regressor's or a state's; of a comparison, its logit less the mean of the others'; NaN of all else.
        against: the classes that it was compared with, ``rest`` for all others; None where it wasn't.
        word: of a caption; None where it is none.
        log_probability: of the word given those before it, natural logarithm; None where it is none.
        output: ``value`` where a state's value is explained; None elsewhere.
    """

    label: str
    index: int | None = None
    chosen: str = "request"
    logit: float = math.nan
    probability: float = math.nan
    value: float = math.nan
    against: list[Prediction] | Literal["rest"] | None = None
    word: str | None = None
    log_probability: float | None = None
    output: str | None = None


class _Map(msgspec.Struct, frozen=True):
    shape: tuple[int, ...]
    data: bytes


class _Picture(msgspec.Struct, frozen=True):
    data: bytes


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Measures of how far a map is to be trusted.

    Attributes:
        deletion: area under the curve while the most important pixels go: less is better.
        insertion: while they come back into a blurred picture: more is better.
        steps: of each curve.
        against: the method whose map this one is compared with; None where there is none.
        agreement: rank correlation of the two maps; None where one is the same everywhere.
    """

    deletion: float
    insertion: float
    steps: int
    against: str | None = None
    agreement: float | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Explanation of one target: where the model looks for it.

    Attributes:
        method: the explanation method.
        layer: the layer explained; ``input`` of methods that no layer has a part in.
        region: x0, y0, x1, y1 of what the model saw, in the original's pixels; beyond the picture where it pads.
        image_size: width and height of the original, turned upright, in pixels.
        max: the map's maximum, logit units.
        peak: x, y of it in the original's pixels, the centre of its cell; None of an empty map.
        empty: whether the map is zero everywhere: nothing speaks for this target.
        kind: what the map's values mean.
        scale: the values of the weakest and the strongest colour of the pictures; None where there are none.
        boxes: x0, y0, x1, y1 around the largest hot area, in the original's pixels; None where not asked for.
        quality: how far the map is to be trusted; None where not asked for.
    """

    method: str
    layer: str
    region: tuple[float, float, float, float]
    image_size: tuple[int, int]
    max: float
    empty: bool
    kind: MapKind
    peak: tuple[float, float] | None = None
    scale: tuple[float, float] | None = None
    boxes: list[tuple[int, int, int, int]] | None = None
    quality: Quality | None = None
    _target: dict[str, Any] = msgspec.field(name="target")
    _map: _Map | None = msgspec.field(name="map", default=None)
    _heatmap: _Picture | None = msgspec.field(name="heatmap", default=None)
    _overlay: _Picture | None = msgspec.field(name="overlay", default=None)

    @cached_property
    def target(self) -> ExplainedTarget:
        """What was explained; a plugin's own kind of target is in `Result.raw`."""
        name = self._target.get("word", self._target.get("output"))
        return msgspec.convert({"label": name, **self._target}, ExplainedTarget)

    @cached_property
    def map(self) -> NDArray[np.float32]:
        """The raw map, (h, w) float32, logit units; of kind ``signed_colour`` (H, W, bands). It can't be written to.

        Raises:
            ValueError: it was not asked for.
        """
        import numpy as np

        if self._map is None:
            _not_asked("map")
        return np.frombuffer(self._map.data, "<f4").reshape(self._map.shape)

    @cached_property
    def heatmap(self) -> Image.Image:
        """The colours alone, to lay over the picture: mode P or RGBA.

        Raises:
            ValueError: it was not asked for.
        """
        return _opened(self._heatmap, "heatmap")

    @cached_property
    def overlay(self) -> Image.Image:
        """The picture with the colours over it.

        Raises:
            ValueError: it was not asked for.
        """
        return _opened(self._overlay, "overlay")


class Result:
    """What the model says about one image.

    Of several images, one may have no answer: then everything but `error` raises what is wrong with it, so that nobody
    takes the others' answers for all of them, and the code for one image is that for each of several.

    Attributes:
        model: that answered.
        request_id: what the service's log has the request under.
        error: what is wrong with this image; None where nothing is.
    """

    def __init__(self, body: dict[str, Any], model: AnsweringModel, request_id: str) -> None:
        self.model = model
        self.request_id = request_id
        said = body.get("error")
        self.error: Problem | None = problem(msgspec.convert(said, ProblemBody)) if said else None
        self._body = body

    @property
    def raw(self) -> dict[str, Any]:
        """The answer as it was written in JSON: members that a plugin's task adds are here alone.

        Raises:
            Problem: there is none.
        """
        if self.error is not None:
            raise self.error
        return self._body

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The most probable classes, the most probable first; of a regressor all values, in its order.

        Raises:
            Problem: there is no answer.
        """
        return msgspec.convert(self.raw["predictions"], list[Prediction])

    @cached_property
    def answers(self) -> list[Prediction]:
        """To a question, the most probable first.

        Raises:
            Problem: there is no answer.
        """
        return msgspec.convert(self.raw["answers"], list[Prediction])

    @cached_property
    def actions(self) -> list[Prediction]:
        """Of an agent, the most probable first.

        Raises:
            Problem: there is no answer.
        """
        return msgspec.convert(self.raw["actions"], list[Prediction])

    @property
    def value(self) -> float | None:
        """Of the state that an agent sees; None where its network gives none.

        Raises:
            Problem: there is no answer.
        """
        return self.raw.get("value")

    @cached_property
    def caption(self) -> Caption:
        """What a captioner says, or the text that it was given.

        Raises:
            Problem: there is no answer.
        """
        return msgspec.convert(self.raw["caption"], Caption)

    @cached_property
    def explanations(self) -> list[Explanation]:
        """One for each target, in order; empty of `Client.predict`.

        Raises:
            Problem: there is no answer.
        """
        return msgspec.convert(self.raw.get("explanations", []), list[Explanation])

    @property
    def warnings(self) -> list[str]:
        """Why the model may see something else than was meant, a sentence each.

        Raises:
            Problem: there is no answer.
        """
        return list(self.raw.get("warnings", ()))

    def __repr__(self) -> str:
        said = {name: told for name, told in self._body.items() if name not in ("explanations", "warnings")}
        if "caption" in said:
            said["caption"] = said["caption"]["text"]
        answer = self.error or ", ".join(f"{name}={told!r}" for name, told in said.items())
        return f"<Result of {self.model.name}@{self.model.version}: {answer}>"


class _Answer(msgspec.Struct):
    request_id: str
    model: AnsweringModel
    results: list[dict[str, Any]]


# What a struct's members are is found at its first use, and two threads that are first at once crash the process
# (msgspec 0.22): so it is found here.
_decode = msgspec.json.Decoder(_Answer).decode
for _struct in (Prediction, Caption, ExplainedTarget, Explanation):
    msgspec.json.Decoder(_struct)


def read_results(content: bytes) -> list[Result]:
    """The results in an answer of ``/predict`` or ``/explain``.

    Raises:
        msgspec.DecodeError: it is none.
    """
    answer = _decode(content)
    return [Result(body, answer.model, answer.request_id) for body in answer.results]


def _opened(picture: _Picture | None, name: str) -> Image.Image:
    from PIL import Image

    if picture is None:
        _not_asked(name)
    return Image.open(io.BytesIO(picture.data))


def _not_asked(name: str) -> NoReturn:
    raise ValueError(f"no {name} was asked for; output={name!r} asks for it, output=['heatmap', 'map'] for two")
