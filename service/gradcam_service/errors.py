"""Errors of the service, in one tree.

    ServiceError
    ├── BadRequest            malformed: the request can't be read
    │   ├── BadOption         an option is unknown or out of range
    │   └── TooSlow           it does not arrive in time
    ├── Unauthorized          a call without the API key or admin token that it needs, or with a wrong one
    ├── UnknownModel          no such model, version or alias
    ├── TooLarge              more bytes, images or pixels than this service accepts
    │   └── HeadTooLarge          more bytes of headers
    ├── UnsupportedMedia      a content type that is not one of the three that carry images
    ├── Unprocessable         understood, but can't be done
    │   ├── UndecodableImage      the bytes are not a picture
    │   ├── UnfitInput            the numbers are not of the shape or type that the model takes
    │   ├── UnknownTarget         the model has no such class
    │   ├── UnsupportedMethod     this model can't be explained that way
    │   ├── UnknownLayer          the model has no such layer
    │   ├── TooManyTargets        more than one request may have explained
    │   ├── AnswerTooLarge        it would draw more pixels than one answer may hold
    │   ├── TooExpensive          it would take more forward passes than one explanation may
    │   ├── NonFinite             the model answers NaN or infinity to it
    │   └── CrashesWorker         the worker died of it, twice
    ├── NotOffered            a protocol has it, this service doesn't
    ├── ClientLeft            nobody waits for the answer any more
    ├── Overloaded            the queue is full; come back later
    │   └── TooManyBytes          so is the memory for requests and answers
    ├── Unavailable           can't be served now
    │   ├── NotReady              starting, draining, or no worker is up
    │   ├── TooManyConnections    as many are open as are accepted
    │   ├── WorkerLost            the worker died while it held the job
    │   ├── OutOfMemory           the device's memory does not hold it
    │   ├── ModelLoading          still loading when the deadline came
    │   │   └── NeedsFullModel        its compiled form answers, which can't do this
    │   ├── ModelFailed           the model can't be loaded
    │   └── PredictorFailed       another server, which has the model, does not answer
    ├── DeadlineExceeded      not done in time
    ├── BadSettings           the service can't start as it is told to
    └── Internal              our fault

Each has a stable ``code``; ``gradcam_service.api.problems`` knows which HTTP status it becomes. An error crosses the
wire between processes as its code and detail and becomes the same class again by `from_code`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile


class ServiceError(Exception):
    """Base of every error that a caller is told about.

    Args:
        detail: one sentence that says what was wrong and what would work.
    """

    code = "error"
    title = "Error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(ServiceError):
    """The request can't be read."""

    code = "malformed"
    title = "Malformed request"


class BadOption(BadRequest):
    """An option is unknown or out of range."""

    code = "bad_option"
    title = "Invalid option"


class TooSlow(BadRequest):
    """The request does not arrive in time."""

    code = "too_slow"
    title = "Too slow"


class Unauthorized(ServiceError):
    """A call without the API key or admin token that it needs, or with a wrong one."""

    code = "unauthorized"
    title = "Unauthorized"


class UnknownModel(ServiceError):
    """No such model, version or alias."""

    code = "unknown_model"
    title = "Unknown model"


class TooLarge(ServiceError):
    """More bytes, images or pixels than this service accepts."""

    code = "too_large"
    title = "Too large"


class HeadTooLarge(TooLarge):
    """More bytes of headers than this service accepts."""

    code = "head_too_large"
    title = "Head too large"


class UnsupportedMedia(ServiceError):
    """A content type that is not one of the three that carry images."""

    code = "unsupported_media_type"
    title = "Unsupported media type"


class Unprocessable(ServiceError):
    """Understood, but can't be done."""

    code = "unprocessable"
    title = "Can't be processed"


class UndecodableImage(Unprocessable):
    """The bytes are not a picture that this service reads."""

    code = "undecodable_image"
    title = "Undecodable image"


class UnfitInput(Unprocessable):
    """The numbers are sound, but of another shape or type than the model takes."""

    code = "unfit_input"
    title = "The input doesn't fit the model"


class UnknownTarget(Unprocessable):
    """The model has no such class."""

    code = "unknown_target"
    title = "Unknown target"


class UnsupportedMethod(Unprocessable):
    """This model can't be explained that way."""

    code = "unsupported_method"
    title = "Unsupported method"


class UnknownLayer(Unprocessable):
    """The model has no such layer, or it has no spatial extent."""

    code = "unknown_layer"
    title = "Unknown layer"

    @classmethod
    def named(cls, name: str, listed: Iterable[str], every: Iterable[str]) -> UnknownLayer:
        """Refuse a name with those that are listed, and the few most like it of all that there are."""
        shown = shortened(name)
        alike = sorted((-_agreement(shown, known), known) for known in every)
        near = [known for agreement, known in alike[:5] if -2 * agreement > len(shown)]
        detail = f"there is no layer {shown!r} with a spatial extent; auto or one of {', '.join(listed)} would work"
        return cls(detail + (f"; near it are {', '.join(near)}" if near else ""))


class TooManyTargets(Unprocessable):
    """More targets than one request may have explained."""

    code = "too_many_targets"
    title = "Too many targets"


class TooExpensive(Unprocessable):
    """It would take more forward passes than one explanation may, or a step of it takes longer than one may."""

    code = "too_expensive"
    title = "Too expensive"


class AnswerTooLarge(Unprocessable):
    """It would draw more pixels than one answer may hold."""

    code = "answer_too_large"
    title = "Answer too large"


class NonFinite(Unprocessable):
    """The model answers NaN or infinity to this image."""

    code = "non_finite"
    title = "The model's scores are not finite"


class CrashesWorker(Unprocessable):
    """The worker died of this image, twice at the same step."""

    code = "crashes_worker"
    title = "The model crashes on this image"


class NotOffered(ServiceError):
    """A part of another server's protocol that this service doesn't have."""

    code = "not_offered"
    title = "Not offered"


class ClientLeft(ServiceError):
    """Nobody waits for the answer any more."""

    code = "client_left"
    title = "The connection was closed"


class Overloaded(ServiceError):
    """The queue is full."""

    code = "queue_full"
    title = "Queue full"


class TooManyBytes(Overloaded):
    """Requests hold as many bytes as this service accepts."""

    code = "too_many_bytes"
    title = "Too many bytes in flight"


class Unavailable(ServiceError):
    """Can't be served now."""

    code = "unavailable"
    title = "Unavailable"


class NotReady(Unavailable):
    """Starting, draining, or no worker is up."""

    code = "not_ready"
    title = "Not ready"


class TooManyConnections(Unavailable):
    """As many connections are open as this service accepts."""

    code = "too_many_connections"
    title = "Too many connections"


class WorkerLost(Unavailable):
    """The worker died while it held the job.

    Attributes:
        step: which step of the job it was working on; None where it only had it in its queue.
        crashed: whether it died of a fault of its own, at a job; else somebody killed it.
        overlong: the most seconds that the step might take, where it was killed because it took longer.
    """

    code = "worker_lost"
    title = "Worker lost"

    def __init__(
        self, detail: str, step: int | None = None, crashed: bool = False, overlong: float | None = None
    ) -> None:
        super().__init__(detail)
        self.step = step
        self.crashed = crashed
        self.overlong = overlong


class OutOfMemory(Unavailable):
    """The device's memory does not hold it."""

    code = "out_of_memory"
    title = "Out of memory"


class ModelLoading(Unavailable):
    """The model was still loading when the deadline came."""

    code = "model_loading"
    title = "Model loading"


class NeedsFullModel(ModelLoading):
    """The model's compiled form answers, which can't do this; the model itself is yet to be brought in."""

    code = "needs_full_model"


class ModelFailed(Unavailable):
    """The model can't be loaded."""

    code = "model_failed"
    title = "Model failed to load"


class PredictorFailed(Unavailable):
    """Another server, which has the model, does not answer."""

    code = "predictor_failed"
    title = "The predictor failed"


class DeadlineExceeded(ServiceError):
    """Not done in time."""

    code = "deadline_exceeded"
    title = "Deadline exceeded"


class BadSettings(ServiceError):
    """The service can't start as it is told to."""

    code = "bad_settings"
    title = "Bad settings"


class Internal(ServiceError):
    """Our fault; the log has the reason under the request id."""

    code = "internal"
    title = "Internal error"


def _subclasses(cls: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


_BY_CODE = {cls.code: cls for cls in _subclasses(ServiceError)}


def from_code(code: str, detail: str) -> ServiceError:
    """The error that crossed the wire as ``code`` and ``detail``, as an instance of its own class."""
    return _BY_CODE.get(code, Internal)(detail)


def shortened(text: str) -> str:
    """What a caller sent, and no more of it than helps."""
    return text if len(text) <= 100 else text[:100] + "…"


def first_line(error: BaseException) -> str:
    """What a library's error says, without the rest of a report; the name of its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def unwrapped(error: BaseException) -> str:
    """All that a library's error says, its lines joined; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Class and first line of what somebody else's code raised: ``KeyError: 'x'`` says more than ``'x'``."""
    name, said = type(error).__name__, first_line(error)
    return name if said == name else f"{name}: {said}"


def _agreement(name: str, known: str) -> int:
    """How many characters two names begin and end with alike."""
    return sum(
        len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        for pairs in (zip(name, known, strict=False), zip(reversed(name), reversed(known), strict=False))
    )
