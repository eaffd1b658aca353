"""ONNX Runtime, on a CPU: blocked layouts and fused operators, without a compiler at hand."""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor

from gradcam_service.explain.network import Backbone
from gradcam_service.runtime import Runtime, Workload
from gradcam_service.runtime._export import INPUT, exported


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


def _build(work: Workload, precision: str) -> Backbone:
    """Open the backbone as an ONNX model.

    Raises:
        Exception: an operator can't be exported or run; of either library's own classes.
    """
    session = open_session(exported(work))

    def features(images: Tensor) -> Tensor:
        (found,) = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(found)

    return features


RUNTIME = Runtime(_build, devices=("cpu",), races=("float32",))
