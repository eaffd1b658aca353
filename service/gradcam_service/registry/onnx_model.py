"""Imports ONNX files as differentiable graphs where that is possible, else as black boxes that ONNX Runtime runs."""

from __future__ import annotations

import hashlib
import logging

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
from gradcam_service.tasks import TASKS, has_value

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
    values = onnx_file.keep_scores(model, spec.output, has_value=has_value(TASKS[spec.task]))
    onnx_file.in_float32(model)
    if spec.activation not in UNCHANGED:
        onnx_file.keep_logits(model, spec.activation)
    session = Session(model, preprocess, spec.input.count)
    labels = folder.labels() or onnx_file.named_classes(model, session.classes - values)
    with half_of_the_threads():
        graph_module = _graph(model, session)
    graph_module.meta[VALUES] = values
    return Built(graph_module, labels, preprocess, content)


def _graph(model: onnx.ModelProto, session: Session) -> fx.GraphModule:
    """The model as a torch graph that agrees with ONNX Runtime, else as a black box."""
    images = _noise(session.takes.preprocess)
    expected = session(images)
    try:
        graph_module = converted(model, images[:1], session.takes)
        _compare(graph_module, images, expected)
    except CannotConvert as error:
        log.warning("ONNX model is a black box: %s", error)
        reason = f"the ONNX model is a black box without gradients: {error}"
        return black_box(session, session.takes.preprocess, session.classes, reason)
    return graph_module


def _noise(preprocess: Preprocess) -> Tensor:
    """Three pictures of noise in 8 bits, as the model will be given them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    shape = (3, len(mean), *preprocess.input_size)
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    return (levels / 255 - mean) / std


@torch.no_grad()
def _compare(graph_module: fx.GraphModule, images: Tensor, expected: Tensor) -> None:
    try:
        found = torch.cat([graph_module(images[:1]), graph_module(images[1:])])
    except Exception as error:  # whatever torch's operators raise
        raise CannotConvert(f"as a torch graph it fails: {first_line(error)}") from error
    if found.shape != expected.shape or not (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
        raise CannotConvert("as a torch graph its scores would differ from those of ONNX Runtime")
