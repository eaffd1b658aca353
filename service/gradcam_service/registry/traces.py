"""What tracing makes of a model: built, checked against its ``model.yaml``, and exported to a flat graph."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import torch
from torch import fx, nn

from gradcam_service.errors import ModelFailed, ServiceError, in_one_line
from gradcam_service.explain.stored import NotStorable, Stored, restored, stored
from gradcam_service.registry import kept
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.registry.threads import half_of_the_threads

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built

log = logging.getLogger(__name__)

_TRACES = "traces"


class Known(msgspec.Struct, frozen=True):
    """What is known of a traced model beside its graph.

    Attributes:
        labels: one for each class; empty where nothing names the classes.
        preprocess: from a picture to the network's input.
        digest: ``sha256:…`` of everything that decides an answer.
        memory: bytes of its parameters and buffers, and of what parts hold elsewhere and say so.
        accepts: what it must map to what, for who is told that it doesn't.
    """

    labels: list[str]
    preprocess: Preprocess
    digest: str
    memory: int
    accepts: str


@dataclass(frozen=True)
class Trace:
    """A model, traced.

    Attributes:
        known: beside the graph.
        graph: on the CPU, as `gradcam_service.explain.tracing.trace` returns it.
    """

    known: Known
    graph: fx.GraphModule


def traced(folder: ModelFolder) -> Trace:
    """The trace of a model: what was kept of it, else made and kept.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    key = kept.key_of(folder)
    if key is not None and (found := _found(key)) is not None:
        return found
    made = trace_of(folder)
    if key is not None:
        _keep(folder, key, made)
    return made


def _found(key: str) -> Trace | None:
    files = kept.find(_TRACES, key)
    if files is None:
        return None
    known = msgspec.json.decode(files["known.json"], type=Known)
    return Trace(known, restored(Stored(files["graph.json"], files["tensors.safetensors"])))


def _keep(folder: ModelFolder, key: str, made: Trace) -> None:
    """Keep a trace for the next start, unless the model's files have changed while it was made of them."""
    if kept.key_of(folder) != key:
        return
    try:
        network = stored(made.graph)
    except NotStorable as error:
        log.info("a trace can't be kept", extra={"fields": {"reason": str(error)}})
        return
    known = msgspec.json.encode(made.known)
    kept.keep(_TRACES, key, {"known.json": known, "graph.json": network.graph, "tensors.safetensors": network.tensors})


def trace_of(folder: ModelFolder) -> Trace:
    """Build a model and trace it, in this process.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    from gradcam_service.explain.tracing import trace
    from gradcam_service.registry.built import build, first_channels, takes_channels

    spec = folder.spec
    with step("can't be built", "its architecture, options and weights in model.yaml must fit each other"):
        built = build(folder)
        digest = _digest(spec, built)
    channels, size = spec.input.count, built.preprocess.input_size
    if len(built.preprocess.mean) != channels:
        raise ModelFailed(f"mean and std have {len(built.preprocess.mean)} values, but the input {channels} channels")
    accepts = f"it must map images (N, {channels}, {size[0]}, {size[1]}), as preprocess says, to scores (N, classes)"
    if (taken := first_channels(built.module)) not in (None, channels):
        accepts = takes_channels(taken, channels)
    memory = _memory(built.module)
    with step("can't be traced", accepts), half_of_the_threads():
        graph = trace(built.module, (channels, *size), output=spec.output)
    return Trace(Known(built.labels, built.preprocess, digest, memory, accepts), graph)


@contextmanager
def step(what: str, remedy: str) -> Iterator[None]:
    """A part of loading: whatever anybody's code raises in it is one line that says what would help.

    Raises:
        ModelFailed: something was raised, the exit of an operator's code included.
    """
    try:
        yield
    except ModelFailed:
        raise
    except ServiceError as error:
        raise ModelFailed(error.detail) from error
    except (Exception, SystemExit) as error:
        log.info("model failed", exc_info=True)
        raise ModelFailed(f"the model {what}: {in_one_line(error)}; {remedy}") from error


def _memory(module: nn.Module) -> int:
    """Bytes of parameters and buffers, and of what parts hold elsewhere and say so."""
    tensors: int = sum(tensor.nbytes for tensor in module.state_dict().values())
    return tensors + sum(int(getattr(part, "nbytes", 0)) for part in module.modules())


def _digest(spec: Spec, built: Built) -> str:
    """``sha256:…`` of everything that decides an answer in float32."""
    decisive = spec.model_dump_json(exclude={"runtime", "precision", "description"}, exclude_defaults=True)
    digest = hashlib.sha256(decisive.encode())
    digest.update("\n".join(built.labels).encode())
    digest.update(built.content.encode())
    for name, tensor in sorted(built.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
