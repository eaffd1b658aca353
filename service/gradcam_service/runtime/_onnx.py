"""Modules as ONNX models for others to keep: of an old operator set, and without a trace of this machine."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.onnx import ONNXProgram

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.runtime import first_cause

_OPSET = 18  # that of ONNX 1.13, of 2022: old enough for every runtime, new enough for scatter-add


def onnx_program(module: nn.Module, examples: tuple[Any, ...], sizes: Any, **named: Any) -> ONNXProgram:  # noqa: ANN401  as torch takes them
    """Export a module as an ONNX model.

    Args:
        module: to be exported.
        examples: of what it takes.
        sizes: which dimensions of these may be of any size, as `torch.export.export` takes them.
        named: what its inputs and outputs are called, as `torch.onnx.export` takes it.

    Raises:
        UnsupportedMethod: an operator can't be exported; it is named.
    """
    try:
        exported = torch.export.export(module, examples, dynamic_shapes=sizes)
        program = torch.onnx.export(exported, dynamo=True, opset_version=_OPSET, verbose=False, **named)
    except RuntimeError as error:
        raise UnsupportedMethod(f"this model can't be written as ONNX: {first_cause(error)}") from error
    assert program is not None
    _forget_origin(program)
    return program


def _forget_origin(program: ONNXProgram) -> None:
    """Drop what the exporter notes on every node and value: stack traces with this machine's paths, among the rest."""
    graph = program.model.graph
    nodes = [*graph.all_nodes()]
    results = (result for node in nodes for result in node.outputs)
    noted: Any
    for noted in chain([program.model, graph], nodes, graph.inputs, graph.initializers.values(), results):
        noted.metadata_props.clear()
        noted.doc_string = None
