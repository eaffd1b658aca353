"""Imports ONNX files as differentiable graphs where that is possible, else as black boxes that ONNX Runtime runs."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import uses_external_data
from torch import Tensor, fx

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.registry.built import Built
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.onnx_graph import CannotConvert, converted
from gradcam_service.registry.onnx_session import Session, black_box
from gradcam_service.registry.spec import Spec
from gradcam_service.registry.weights import weights_file

_ENDINGS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
_TOLERANCE = 1e-3
"""How far scores may be from ONNX Runtime's, relative to the largest."""

log = logging.getLogger(__name__)


def imported(folder: ModelFolder) -> Built:
    """Import an ONNX model; where no equivalent torch graph is found, it is a black box, and says why.

    Raises:
        ModelFailed: the file is damaged, or no classifier of images, or ONNX Runtime can't run it.
    """
    spec, preprocess = folder.spec, folder.preprocess()
    model = _read(weights_file(folder), spec)
    content = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    _keep_logits(model, spec.activation)
    session = Session(model, preprocess.input_size)
    return Built(_graph(model, session), folder.labels() or [], preprocess, content)


def _read(path: Path, spec: Spec) -> onnx.ModelProto:
    """The model with the tensors that it keeps in files beside it; onnx refuses files anywhere else."""
    try:
        model = onnx.load(path, load_external_data=False)
        if spec.sha256 and any(uses_external_data(tensor) for tensor in model.graph.initializer):
            raise ModelFailed(f"{path.name} keeps tensors in other files, which its sha256 does not cover; save as one")
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        model.SerializeToString()
    except (DecodeError, EncodeError) as error:
        raise ModelFailed(f"{path.name} is no ONNX model, or has more than 2 GiB: {error}") from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelFailed(f"{path.name} is no valid ONNX model: {first_line(error)}") from error
    return model


def _keep_logits(model: onnx.ModelProto, activation: str) -> None:
    """Make the model's scores its one output: the first of two dimensions, before the softmax or sigmoid it ends in."""
    scores = next((value for value in model.graph.output if len(value.type.tensor_type.shape.dim) == 2), None)
    if scores is None:
        shown = ", ".join(value.name for value in model.graph.output)
        raise ModelFailed(f"no output is a row of scores for each image, (N, classes); there are {shown}")
    producer = next((node for node in model.graph.node if scores.name in node.output), None)
    if producer is not None and producer.op_type in _ENDINGS and producer.domain == "":
        ending = _ENDINGS[producer.op_type]
        if ending != activation:
            raise ModelFailed(f"the model ends in {producer.op_type}; activation must be {ending}, not {activation}")
        scores.name = producer.input[0]
        model.graph.node.remove(producer)
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(scores)
    del model.graph.output[:]
    model.graph.output.append(kept)


def _graph(model: onnx.ModelProto, session: Session) -> fx.GraphModule:
    """The model as a torch graph that agrees with ONNX Runtime, else as a black box."""
    images = torch.randn(3, 3, *session.size, generator=torch.Generator().manual_seed(0))
    expected = session(images)
    try:
        graph_module = converted(model, images[:1], session.batch, session.channels_last)
        _compare(graph_module, images, expected)
    except CannotConvert as error:
        log.warning("ONNX model is a black box: %s", error)
        return black_box(session, expected.shape[1], f"the ONNX model is a black box without gradients: {error}")
    return graph_module


@torch.no_grad()
def _compare(graph_module: fx.GraphModule, images: Tensor, expected: Tensor) -> None:
    try:
        found = torch.cat([graph_module(images[:1]), graph_module(images[1:])])
    except Exception as error:  # whatever torch's operators raise
        raise CannotConvert(f"as a torch graph it fails: {first_line(error)}") from error
    if found.shape != expected.shape or not (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
        raise CannotConvert("as a torch graph its scores would differ from those of ONNX Runtime")
