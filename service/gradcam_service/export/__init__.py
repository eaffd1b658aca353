"""A model with its Grad-CAM as one ONNX file, proven against the service before it gets its name.

The graph maps ``image`` (N, C, H, W) float32, normalised, and ``target`` (N,) int64 to ``scores`` (N, classes) and
``heatmap`` (N, h, w), both float32 in logit units; see `gradcam_service.explain.lowering.Explainer`. The file's
metadata says how to make ``image`` from a picture and what the classes are, and the program beside it does so.
"""

from __future__ import annotations

import json
import logging
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.onnx import ONNXProgram

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.cut import Cut
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.lowering import Explainer, lower
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.objectives import Logit
from gradcam_service.export.program import is_ours, program_for
from gradcam_service.local import Local
from gradcam_service.runtime import first_cause

__all__ = ["export", "is_ours"]

_OPSET, _IR_VERSION = 18, 8  # those of ONNX 1.13, of 2022: old enough for every runtime, new enough for scatter-add
_TOLERANCE = 1e-4  # of the largest value


def export(local: Local, layer: str, file: Path) -> None:
    """Write the model and its Grad-CAM maps at ``layer`` to ``file``, and beside it a program that asks it of pictures.

    Weights of more than 2 GB are in another file beside it.

    Raises:
        UnknownLayer: the model has no such layer.
        UnsupportedMethod: it takes text or frames, or gives a value beside scores; an operator can't be exported (it is
            named), or the file would answer unlike the service.
        OSError: the file can't be written.
    """
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # what goes wrong is in the error
    network = local.in_torch("an export").network.to(torch.device("cpu"))
    if network.others:
        raise UnsupportedMethod(
            f"{local.key} takes {' and '.join(network.others)} beside the picture, which no file can yet"
        )
    cut, card = network.cut_at(layer), local.model.card
    if card.input.frames > 1 or card.has_value:
        raise UnsupportedMethod(
            "a model of several frames, or of a value beside its scores, can't be exported; others can"
        )
    images = torch.randn(4, card.input.count, *card.preprocess.input_size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix=".gradcam-", dir=file.parent) as folder:
        program = _program(lower(cut), images)
        _forget_origin(program)
        program.model.doc_string = f"Scores and Grad-CAM maps at {cut.layer.name} of {local.key}"
        program.model.metadata_props.update(_metadata(local, cut))
        unproven = Path(folder) / file.name
        program.save(unproven)
        _prove(unproven, cut, images)
        unproven.with_suffix(".py").write_text(program_for(file.stem, local.key, card), "utf-8")
        for written in sorted(Path(folder).iterdir(), key=lambda path: path == unproven):
            written.replace(file.parent / written.name)


def _program(explainer: Explainer, images: Tensor) -> ONNXProgram:
    sizes = ({0: torch.export.Dim("batch")},) * 2
    target = torch.zeros(len(images), dtype=torch.int64)
    try:
        exported = torch.export.export(explainer, (images, target), dynamic_shapes=sizes)
        program = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=["image", "target"],
            output_names=["scores", "heatmap"],
            dynamic_shapes=(sizes[0], None),  # for the dimension's name
            opset_version=_OPSET,
            verbose=False,
        )
    except RuntimeError as error:
        raise UnsupportedMethod(f"this model can't be exported to ONNX: {first_cause(error)}") from error
    assert program is not None
    return program


def _forget_origin(program: ONNXProgram) -> None:
    """Drop what the exporter notes on every node and value: stack traces with this machine's paths, among the rest."""
    graph = program.model.graph
    results = (result for node in graph for result in node.outputs)
    noted: Any
    for noted in chain([graph], graph, graph.inputs, graph.initializers.values(), results):
        noted.metadata_props.clear()
    program.model.ir_version = _IR_VERSION


def _metadata(local: Local, cut: Cut) -> dict[str, str]:
    """All that a caller needs to know; everything but text is JSON."""
    card = local.model.card
    preprocess = card.preprocess
    sizes = {name: getattr(preprocess, name) for name in ("resize", "crop", "pad")}
    return {
        "model": local.key,
        "digest": card.digest,
        "method": "gradcam",
        "layer": cut.layer.name,
        "activation": card.activation,
        "labels": json.dumps(card.labels, ensure_ascii=False),
        "input": json.dumps(
            {"channels": card.input.channels, "depth": card.input.depth}
            | ({"range": card.input.range} if card.input.range else {})
        ),
        "input_size": json.dumps(preprocess.input_size),
        "mean": json.dumps(preprocess.mean),
        "std": json.dumps(preprocess.std),
        "interpolation": preprocess.interpolation,
    } | {name: json.dumps(size) for name, size in sizes.items() if size is not None}


def _prove(path: Path, cut: Cut, images: Tensor) -> None:
    """Check the file as ONNX, then its answers in ONNX Runtime against the service's, for batches of 1 and 3."""
    try:
        onnx.checker.check_model(path, full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for batch in torch.split(images, [1, 3]):
            with torch.no_grad():
                frontier = cut.frontier(batch)
                scores = cut.head.scores(frontier)
            target = scores.argmax(1)
            answers = session.run(["scores", "heatmap"], {"image": batch.numpy(), "target": target.numpy()})
            maps = _maps(cut, frontier, target)
            _compare("scores", torch.from_numpy(answers[0]), scores)
            _compare("maps", torch.from_numpy(answers[1]), maps, _unsteadiness(cut, frontier, target, maps))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedMethod(f"the graph is not valid ONNX: {error}") from error


def _maps(cut: Cut, frontier: Frontier, target: Tensor) -> Tensor:
    grid, gradients = cut.layer.layout.to_grid(frontier.features), cut.head.gradients(frontier, Logit(target))
    maps: Tensor = gradcam(grid, gradients)
    return maps


def _unsteadiness(cut: Cut, frontier: Frontier, target: Tensor, maps: Tensor) -> float:
    """How far the service's own maps move when the last digits of the feature maps do.

    A gradient jumps where a ReLU's input crosses zero or another cell becomes a window's maximum, and no two
    implementations round alike. It is next to nothing at a last layer, and a few percent at a first one.
    """
    generator = torch.Generator().manual_seed(0)
    features = frontier.features
    step = 3e-5 * features.abs().max()
    noisy = (features + step * torch.randn(features.shape, generator=generator) for _ in range(8))
    return max(float((_maps(cut, frontier.having(moved), target) - maps).abs().max()) for moved in noisy)


def _compare(what: str, actual: Tensor, expected: Tensor, unsteadiness: float = 0.0) -> None:
    difference, largest = float((actual - expected).abs().max()), float(expected.abs().max())
    if not difference <= _TOLERANCE * largest + 2 * unsteadiness:
        raise UnsupportedMethod(
            f"the exported graph's {what} differ from the service's by {difference:.1e}, where the largest is "
            f"{largest:.1e}; nothing is written"
        )
