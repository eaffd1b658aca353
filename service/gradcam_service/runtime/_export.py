"""Exports a backbone as an ONNX model, for every runtime that takes one."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import TRACING, release
from gradcam_service.runtime import Workload
from gradcam_service.runtime._fold import folded

INPUT = "images"
"""What the model calls its input, (N, C, H, W); its only output are the feature maps."""

ELSEWHERE = "exported elsewhere"
"""Key of a backbone's ``meta``: what gives it as an ONNX model that was exported before, or by another process."""
_EXPORTED: WeakKeyDictionary[Workload, bytes | Exception] = WeakKeyDictionary()
"""What became of each for as long as a runtime may ask for it."""


def exported(work: Workload) -> bytes:
    """Export a backbone, weights included, for any number of images; once for all that ask.

    Raises:
        Exception: an operator can't be exported; of the exporter's own classes.
    """
    if work not in _EXPORTED:
        try:
            _EXPORTED[work] = _export(work.backbone, work.images)
        except Exception as error:  # for who asks next, too
            _EXPORTED[work] = error
    found = _EXPORTED[work]
    if isinstance(found, Exception):
        raise found
    return found


def _export(backbone: fx.GraphModule, images: Tensor) -> bytes:
    if ELSEWHERE in backbone.meta and (found := backbone.meta[ELSEWHERE]()) is not None:
        given: bytes = found
        return given
    # Folded, as ONNX Runtime does not recognise batch normalisation as torch exports it.
    with TRACING:
        program = torch.export.export(folded(backbone), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        model = torch.onnx.export(program, dynamo=True, input_names=[INPUT], verbose=False)
    assert model is not None
    content: bytes = model.model_proto.SerializeToString()
    release(program.graph)
    return content
