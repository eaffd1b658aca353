"""Imports ONNX files as differentiable graphs where that is possible, else as black boxes that ONNX Runtime runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, fx

from gradcam_service.errors import first_line
from gradcam_service.explain.activation import UNCHANGED
from gradcam_service.explain.graph import VALUES
from gradcam_service.registry import onnx_file
from gradcam_service.registry.black_box import black_box
from gradcam_service.registry.built import Built
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.onnx_graph import CannotConvert, converted
from gradcam_service.registry.onnx_session import Session
from gradcam_service.registry.spec import Preprocess
from gradcam_service.registry.threads import half_of_the_threads
from gradcam_service.registry.weights import weights_file
from gradcam_service.tasks import TASKS
from gradcam_service.text import TOKENS, Text

_TOLERANCE = 1e-3
"""How far scores may be from ONNX Runtime's, relative to the largest."""

log = logging.getLogger(__name__)


def imported(folder: ModelFolder) -> Built:
    """Import an ONNX model; where no equivalent torch graph is found, it is a black box, and says why.

    Raises:
        ModelFailed: the file is damaged, or no classifier of images, or ONNX Runtime can't run it.
    """
    spec, preprocess = folder.spec, folder.preprocess()
    model = onnx_file.read(weights_file(folder), spec.sha256)
    content = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    text, task = folder.text(), TASKS[spec.task]
    values = onnx_file.keep_scores(model, spec.output, has_value=task.has_value, speaks=task.speaks)
    onnx_file.in_float32(model)
    if spec.activation not in UNCHANGED:
        onnx_file.keep_logits(model, spec.activation)
    session = Session(model, preprocess, spec.input.count, text)
    labels = folder.labels() or onnx_file.named_classes(model, session.scores[-1] - values)
    with half_of_the_threads():
        graph_module = _graph(model, session, text)
    graph_module.meta[VALUES] = values
    return Built(graph_module, labels, preprocess, content)


def _graph(model: onnx.ModelProto, session: Session, text: Text | None) -> fx.GraphModule:
    """The model as a torch graph that agrees with ONNX Runtime, else as a black box."""
    preprocess = session.takes.images.preprocess
    inputs = {"image": _noise(preprocess)} | ({} if text is None else {TOKENS: _random_words(text)})
    expected = session(*inputs.values())
    try:
        graph_module = converted(model, {name: rows[:1] for name, rows in inputs.items()}, session.takes)
        _compare(graph_module, [*inputs.values()], expected)
    except CannotConvert as error:
        log.warning("ONNX model is a black box: %s", error)
        reason = f"the ONNX model is a black box without gradients: {error}"
        return black_box(session, preprocess, session.scores, reason, text)
    return graph_module


def _noise(preprocess: Preprocess) -> Tensor:
    """Three pictures of noise in 8 bits, as the model will be given them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    shape = (3, len(mean), *preprocess.input_size)
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    return (levels / 255 - mean) / std


def _random_words(text: Text) -> Tensor:
    """Three texts (3, T) int64: words as they come, the last of which are missing."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(len(text.vocabulary), (3, text.length), generator=generator)
    words[2, (text.length + 1) // 2 :] = text.pad
    return words


@torch.no_grad()
def _compare(graph_module: fx.GraphModule, inputs: Sequence[Tensor], expected: Tensor) -> None:
    parts = [[values[:1] for values in inputs], [values[1:] for values in inputs]]
    try:
        found = torch.cat([graph_module(*part) for part in parts])
    except Exception as error:  # whatever torch's operators raise
        raise CannotConvert(f"as a torch graph it fails: {first_line(error)}") from error
    if found.shape != expected.shape or not (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
        raise CannotConvert("as a torch graph its scores would differ from those of ONNX Runtime")
