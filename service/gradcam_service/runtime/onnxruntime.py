"""ONNX Runtime, on a CPU: blocked layouts and fused operators, without a compiler at hand."""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor, fx

from gradcam_service.explain.graph import TRACING, release
from gradcam_service.explain.network import Backbone
from gradcam_service.runtime import Runtime
from gradcam_service.runtime._fold import folded


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Open an ONNX model, ready to run on as many threads as torch has.

    Raises:
        Exception: ONNX Runtime can't run it; of several classes of its own, without a common base.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Within a batch its threads spin while they wait for each other; between batches, pictures need the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _build(backbone: fx.GraphModule, images: Tensor, most: int, precision: str) -> Backbone:
    """Export it as an ONNX graph, weights included.

    Raises:
        Exception: an operator can't be exported or run; of either library's own classes.
    """
    # Folded, as ONNX Runtime does not recognise batch normalisation as torch exports it.
    with TRACING:
        program = torch.export.export(folded(backbone), (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        exported = torch.onnx.export(program, dynamo=True, input_names=["images"], verbose=False)
    assert exported is not None
    session = open_session(exported.model_proto.SerializeToString())
    release(program.graph)

    def features(images: Tensor) -> Tensor:
        (found,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(found)

    return features


RUNTIME = Runtime(_build, devices=("cpu",), races=("float32", "bfloat16"))
