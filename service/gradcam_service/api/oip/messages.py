"""Requests and answers of the protocol, whatever carried them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gradcam_service.api.oip.tensors import Tensor

Parameters: TypeAlias = Mapping[str, Any]
"""Text, numbers and truth values by name; whatever else comes is passed over."""


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for by name."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class InferRequest:
    """Request to a face of a model.

    Attributes:
        inputs: pictures or their numbers, and perhaps targets.
        outputs: what is wanted; empty for all that the face gives.
        parameters: options of ``/predict`` and ``/explain``, and the protocol's own.
        id: its caller's; None where there is none.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[Wanted] = ()
    parameters: Parameters = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, eq=False)
class InferResponse:
    """Answer of a model.

    Attributes:
        model: as the request named it.
        version: of the model that answered.
        id: of the request.
        outputs: in the order in which they were asked for.
        parameters: what else is to say of them: method, layer and kind of maps, and warnings.
    """

    model: str
    version: str
    id: str
    outputs: Sequence[Tensor]
    parameters: Parameters = field(default_factory=dict)


@dataclass(eq=False)
class Exchange:
    """A request that reaches the application as it is, in ``scope["exchange"]`` and no body, and its answer likewise.

    Attributes:
        read: makes the request of what was sent; raises `ServiceError` where it can't.
        size: bytes of its tensors.
        answer: set once there is one.
    """

    read: Callable[[], InferRequest]
    size: int
    answer: InferResponse | None = None
