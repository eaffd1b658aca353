"""Messages between API processes and workers: a msgspec header frame, then raw frames.

API → worker: `Hello`, `Job` (+ a frame for each input), `Cancel`, `Load`, `Unload`, `Rescan`
worker → API: `Status`, `Done` (+ scores frame, maps frame), `Managed`, `Failed`

An array in a header is its shape alone; its numbers, float32, are a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from gradcam_service.question import Question
from gradcam_service.registry.card import Computed
from gradcam_service.registry.listing import Model
from gradcam_service.targets import Target

Dtype: TypeAlias = Literal["uint8", "float32", "int64"]

Inputs: TypeAlias = Mapping[str, np.ndarray]
"""What a model is asked about, by the names of its inputs: numbers of a `Dtype`, without the batch's dimension."""


class Quality(msgspec.Struct, frozen=True):
    """Quality of a map, how far it is to be trusted; see `gradcam_service.worker.quality`.

    Attributes:
        deletion: area under the curve, in units of what was explained after the activation: less is better.
        insertion: likewise: more is better.
        steps: of each curve.
        against: the other method; None where there is none.
        agreement: rank correlation with its map; None where there is none, or one of the maps is constant.
    """

    deletion: float
    insertion: float
    steps: int
    against: str | None = None
    agreement: float | None = None


class Hello(msgspec.Struct, tag=True, frozen=True):
    """An API process is there and wants to know the worker's `Status`, now and whenever it changes.

    Attributes:
        session: which connection of that process to a worker this is.
    """

    session: int


class TensorSpec(msgspec.Struct, frozen=True):
    """A frame's numbers: NumPy's name of their type, and the tensor's shape."""

    dtype: Dtype
    shape: tuple[int, ...]


class Job(msgspec.Struct, tag=True, frozen=True):
    """One image to be predicted, and explained where a question is asked.

    Attributes:
        id: unique within one API process.
        model: ``name@version``.
        digest: of the model meant, since a version's content may be replaced by newer.
        inputs: by name, in the order of the frames that follow.
        deadline: CLOCK_MONOTONIC seconds, shared by all processes of one machine.
        sent: likewise, when the job left the API process.
        alone: whether it is not to be batched, since a worker died while it worked on it.
    """

    id: int
    model: str
    digest: str
    inputs: dict[str, TensorSpec]
    deadline: float
    sent: float
    question: Question | None = None
    alone: bool = False


class Cancel(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for this job any more."""

    id: int


class Load(msgspec.Struct, tag=True, frozen=True):
    """Have the model ``name@version`` loaded; answered by `Managed` when it is ready, or by `Failed`.

    Attributes:
        again: even if it is ready, or has failed lately; it goes on answering until the new one is ready.
        whole: and where its compiled form answers, the full model beside that.
    """

    id: int
    model: str
    again: bool = False
    whole: bool = False


class Unload(msgspec.Struct, tag=True, frozen=True):
    """Forget the model ``name@version`` until it is asked for; answered by `Managed`, or by `Failed`."""

    id: int
    model: str


class Rescan(msgspec.Struct, tag=True, frozen=True):
    """Scan the repositories now; answered by `Managed` when what they hold is known, or by `Failed`."""

    id: int


class Answer(msgspec.Struct, frozen=True, eq=False):
    """Answer of a model about one image: its scores, and the maps that were asked for.

    Attributes:
        scores: (classes,) float32, logit units, and the model's value behind them if it gives one; of a caption, for
            each word its logit and its log-probability, ((T − 1) · 2,).
        maps: (targets, h, w) or, a value for each band of the input, (targets, H, W, C) float32.
        computed: by what.
        targets: what was explained; empty where nothing was asked.
        layer: the layer explained; empty likewise.
        quality: of each map; empty where it was not asked for.
        tokens: the caption that was given or found; None of a model that speaks of none.
    """

    scores: np.ndarray
    maps: np.ndarray
    computed: Computed
    targets: tuple[Target, ...] = ()
    layer: str = ""
    quality: tuple[Quality, ...] = ()
    tokens: tuple[int, ...] | None = None

    @property
    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """What follows the header."""
        return np.ascontiguousarray(self.scores), np.ascontiguousarray(self.maps)

    def filled(self, frames: Sequence[bytes]) -> Answer:
        """A header's answer, with the numbers of the frames that followed it.

        Raises:
            ValueError: they are others than it says.
        """
        scores, maps = (np.frombuffer(frame, np.float32) for frame in frames)
        return msgspec.structs.replace(
            self, scores=scores.reshape(self.scores.shape), maps=maps.reshape(self.maps.shape)
        )


class Timings(msgspec.Struct, frozen=True):
    """Seconds that a job spent waiting for its batch, in the forward pass, and in the gradient and map."""

    queue: float
    forward: float
    backward: float


class Status(msgspec.Struct, tag=True, frozen=True):
    """Every model the worker knows, in its present state.

    Attributes:
        session: of the `Hello` that this answers, so that a dead worker's last words are not taken for the next one's.
        started: whether every model that is loaded at start has been, or has failed; see `Models.started`.
    """

    session: int
    models: list[Model]
    started: bool


class Done(msgspec.Struct, tag=True, frozen=True):
    """A job is answered."""

    id: int
    timings: Timings
    answer: Answer


class Managed(msgspec.Struct, tag=True, frozen=True):
    """A `Load`, `Unload` or `Rescan` is done."""

    id: int


class Failed(msgspec.Struct, tag=True, frozen=True):
    """A job or a load failed; code and detail are those of a `gradcam_service.errors.ServiceError`."""

    id: int
    code: str
    detail: str


Request = Hello | Job | Cancel | Load | Unload | Rescan
Reply = Status | Done | Managed | Failed


def _shape(value: object) -> tuple[int, ...]:
    """Of an array, whose numbers go beside the message; anything else, as a plugin's NumPy integer, is no message."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} can't be sent from process to process")
    shape: tuple[int, ...] = value.shape
    return shape


def _unfilled(_: type, shape: list[int]) -> np.ndarray:
    """An array of that shape that takes no memory."""
    return np.ndarray(shape, np.float32, bytes(4), strides=(0,) * len(shape))


encode = msgspec.msgpack.Encoder(enc_hook=_shape).encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply, dec_hook=_unfilled).decode
