"""Traces of models: each built, checked against its ``model.yaml``, and exported to a flat graph."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import torch
from torch import fx, nn

from gradcam_service.errors import ModelFailed, ServiceError, in_one_line
from gradcam_service.explain.endings import values_of
from gradcam_service.explain.graph import VALUES
from gradcam_service.explain.network import Network
from gradcam_service.explain.stored import NotStorable, Stored, restored, stored
from gradcam_service.explain.tracing import Inputs
from gradcam_service.registry import apart, cache, kept
from gradcam_service.registry.apart import TRACES, Surroundings
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.spec import Preprocess, Spec
from gradcam_service.registry.threads import half_of_the_threads
from gradcam_service.runtime import Workload, first_cause
from gradcam_service.tasks import TASKS
from gradcam_service.text import TOKENS, Text

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built

log = logging.getLogger(__name__)

_EXPORTS = "exports"
_MODEL, _REFUSED = "backbone.onnx", "refused.txt"


class Known(msgspec.Struct, frozen=True):
    """What is known of a traced model beside its graph.

    Attributes:
        labels: one for each class; empty where nothing names the classes.
        preprocess: from a picture to the network's input.
        digest: ``sha256:…`` of everything that decides an answer.
        memory: bytes of its parameters and buffers, and of what parts hold elsewhere and say so.
        accepts: what it must map to what, for who is told that it doesn't.
        text: what of text the network takes beside images; None where it takes none.
        values: how many of its scores, the last, are values beside those of classes.
    """

    labels: list[str]
    preprocess: Preprocess
    digest: str
    memory: int
    accepts: str
    text: Text | None = None
    values: int = 0


_decode = msgspec.json.Decoder(Known).decode


@dataclass(frozen=True)
class Trace:
    """A model, traced.

    Attributes:
        known: beside the graph.
        graph: on the CPU, as `gradcam_service.explain.tracing.trace` returns it.
        exporter: where it is to be exported elsewhere, what gives its backbone.
    """

    known: Known
    graph: fx.GraphModule
    exporter: Exporter | None = None


class Exporter:
    """The backbone of a model as an ONNX model, exported by a process of its own, now or before an earlier start.

    Args:
        folder: of the model.
        key: of what is kept of it.
        surroundings: of the process.
    """

    def __init__(self, folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
        self._folder = folder
        self._key = key
        self._surroundings = surroundings
        self._tried = False
        self._failure = ""

    def is_ready(self) -> bool:
        """Whether there is nothing to wait for: it was exported, or that was tried."""
        return self._tried or kept.holds(_EXPORTS, self._key)

    def export(self) -> None:
        """Have it exported if it isn't, when no other is being exported on this machine, for each takes a gigabyte.

        Raises:
            OSError: the process can't be started.
        """
        self._tried = True
        with cache.alone("export"):
            if not kept.holds(_EXPORTS, self._key):
                try:
                    apart.run("export", self._folder, self._key, self._surroundings)
                except ModelFailed as error:
                    self._failure = error.detail

    def __call__(self) -> bytes | None:
        """The model, exported first if need be; None where the disk did not take it.

        Raises:
            RuntimeError: an operator can't be exported, or the process died of it.
        """
        files = kept.find(_EXPORTS, self._key)
        if files is None and not self._tried:
            self.export()
            files = kept.find(_EXPORTS, self._key)
        if self._failure:
            raise RuntimeError(self._failure)
        files = files or {}
        if _REFUSED in files:
            raise RuntimeError(files[_REFUSED].decode())
        return files.get(_MODEL)


def traced(folder: ModelFolder, surroundings: Surroundings | None = None) -> Trace:
    """The trace of a model: what was kept of it, else made and kept.

    Args:
        folder: of the model.
        surroundings: of a process of its own that traces and exports it where that can be; None for this process.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    key = kept.key_of(folder)
    if key is None:  # an operator's code may define operators, which this process needs, too
        return trace_of(folder)
    found = _found(folder, key)
    if surroundings is None:
        return found or keep_trace(folder, key)
    if found is None:
        apart.trace(folder, key, surroundings)
        found = _found(folder, key)
    if found is None:  # the disk has not taken it
        return trace_of(folder)
    if not surroundings.exports or folder.spec.runtime == "eager":
        return found
    return replace(found, exporter=Exporter(folder, key, surroundings))


def keep_trace(folder: ModelFolder, key: str) -> Trace:
    """Trace a model and keep that for the next start, unless its files have changed while it was made of them.

    Args:
        folder: of the model.
        key: of what is kept of it.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    made = trace_of(folder)
    if kept.key_of(folder) == key:
        try:
            network = stored(made.graph)
            known = msgspec.json.encode(made.known)
            files = {"known.json": known, "graph.json": network.graph, "tensors.safetensors": network.tensors}
        except NotStorable as error:
            files = {_REFUSED: str(error).encode()}
        kept.keep(TRACES, key, files)
    return made


def keep_export(folder: ModelFolder, key: str) -> None:
    """Export a model's backbone at the default layer and keep that, unless its files have changed meanwhile.

    Args:
        folder: of the model.
        key: of what is kept of it.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    files = _exported(folder.spec, _found(folder, key) or trace_of(folder))
    if kept.key_of(folder) == key:
        kept.keep(_EXPORTS, key, files)


def _exported(spec: Spec, made: Trace) -> dict[str, bytes]:
    from gradcam_service.runtime._export import exported

    shape = (spec.input.count, *made.known.preprocess.input_size)
    try:
        backbone = Network(made.graph, examples(shape, made.known.text), spec.layer, spec.activation).of_images
        return {_MODEL: exported(Workload(backbone, torch.zeros(2, *shape), most=1))}
    except (MemoryError, OSError):  # of this machine now
        raise
    except Exception as error:  # it would be so at every start; where the layer is at fault, who loads it says so
        return {_REFUSED: first_cause(error).encode()}


def _found(folder: ModelFolder, key: str) -> Trace | None:
    """What was kept of a model; traced here if it is that it can't be."""
    files = kept.find(TRACES, key)
    if files is None:
        return None
    if _REFUSED in files:
        return trace_of(folder)
    try:
        known = _decode(files["known.json"])
        graph = restored(Stored(files["graph.json"], files["tensors.safetensors"]))
        graph.meta[VALUES] = known.values
        return Trace(known, graph)
    except Exception as error:  # whatever is wrong with it, the model can be traced again
        kept.drop(TRACES, key, in_one_line(error))
        return None


def trace_of(folder: ModelFolder) -> Trace:
    """Build a model and trace it, in this process.

    Raises:
        ModelFailed: it can't be built or traced.
    """
    from gradcam_service.explain.tracing import trace
    from gradcam_service.registry.built import build, first_channels, takes_channels
    from gradcam_service.registry.captioner import of_every_position

    spec = folder.spec
    with step("can't be built", "its architecture, options and weights in model.yaml must fit each other"):
        built, text = build(folder), folder.text()
        digest = _digest(spec, built, text)
    channels, size = spec.input.count, built.preprocess.input_size
    if len(built.preprocess.mean) != channels:
        raise ModelFailed(f"mean and std have {len(built.preprocess.mean)} values, but the input {channels} channels")
    accepts = f"it must map images (N, {channels}, {size[0]}, {size[1]}), as preprocess says, to scores (N, classes)"
    if text is not None:
        accepts = accepts.replace(", to", f", and tokens (N, {text.length}) of int64 to")
    if (taken := first_channels(built.module)) not in (None, channels):
        accepts = takes_channels(taken, channels)
    memory = _memory(built.module)
    with step("can't be traced", accepts), half_of_the_threads():
        graph = trace(
            built.module, examples((channels, *size), text), output=spec.output, has_value=TASKS[spec.task].has_value
        )
        if text is not None and TASKS[spec.task].speaks:
            graph = of_every_position(graph, text)
    known = Known(built.labels, built.preprocess, digest, memory, accepts, text, values_of(graph))
    return Trace(known, graph)


def examples(shape: tuple[int, int, int], text: Text | None) -> Inputs:
    """The inputs that a network of images (C, H, W) is traced with, and of text where it takes any."""
    if text is None:
        return shape
    return {"image": torch.zeros(2, *shape), TOKENS: torch.from_numpy(text.example()).repeat(2, 1)}


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


def _digest(spec: Spec, built: Built, text: Text | None) -> str:
    """``sha256:…`` of everything that decides an answer in float32."""
    digest = hashlib.sha256(spec.decisive().encode())
    digest.update("\n".join(built.labels).encode())
    digest.update(built.content.encode())
    digest.update(msgspec.json.encode(text) if text else b"")
    for name, tensor in sorted(built.module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"
