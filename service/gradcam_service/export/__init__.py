"""A model with its Grad-CAM as one ONNX file, proven against the service before it gets its name.

The graph maps ``image`` (N, C, H, W) float32, normalised, and ``target`` (N,) int64 to ``scores`` (N, classes) and
``heatmap`` (N, h, w), both float32 in logit units; see `gradcam_service.explain.lowering.Explainer`. The file's
metadata says how to make ``image`` from a picture and what the classes are, and the program beside it does so.
"""

from __future__ import annotations

import json
import logging
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
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
from gradcam_service.runtime._agreement import check_agreement, unsteadiness
from gradcam_service.runtime._onnx import onnx_program

__all__ = ["export", "is_ours"]

_IR_VERSION = 8  # of ONNX 1.13, as its operators are, for runtimes of that time


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
    names = {"input_names": ["image", "target"], "output_names": ["scores", "heatmap"]}
    shapes = (sizes[0], None)  # for the dimension's name
    program = onnx_program(explainer, (images, target), sizes, **names, dynamic_shapes=shapes)
    program.model.ir_version = _IR_VERSION
    return program


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
            explained = partial(_maps, cut, target)
            check_agreement("the exported graph's scores", answers[0], scores.numpy())
            check_agreement(
                "the exported graph's maps", answers[1], explained(frontier), partial(unsteadiness, explained, frontier)
            )
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedMethod(f"the graph is not valid ONNX: {error}") from error


def _maps(cut: Cut, target: Tensor, frontier: Frontier) -> np.ndarray:
    grid, gradients = cut.layer.layout.to_grid(frontier.features), cut.head.gradients(frontier, Logit(target))
    maps: np.ndarray = gradcam(grid, gradients).numpy()
    return maps
