"""ONNX Runtime, on a CPU: blocked layouts and fused operators, without a compiler at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from gradcam_service.runtime import Graph, Runtime, Workload
from gradcam_service.runtime._threads import computing

if TYPE_CHECKING:
    from torch import Tensor

    from gradcam_service.explain.network import Backbone


def open_session(model: bytes | Path) -> onnxruntime.InferenceSession:
    """Open an ONNX model, or the file of one, ready to run on as many threads as torch has.

    Raises:
        Exception: ONNX Runtime can't run it; of several classes of its own, without a common base.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = computing()
    options.log_severity_level = 3
    # Within a batch its threads spin while they wait for each other; between batches, pictures need the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    session._model_bytes = None  # kept to open it once more on another provider, and as large as the model
    return session


def _open(model: bytes | Path, precision: str, folder: Path | None = None) -> Graph:
    """Open it as a function of arrays.

    Raises:
        Exception: as `open_session` does.
    """
    session = open_session(model)
    names = [each.name for each in session.get_inputs()]

    def computed(*inputs: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
        return found

    return computed


def _build(work: Workload, precision: str) -> Backbone:
    """Open the backbone as an ONNX model.

    Raises:
        Exception: an operator can't be exported or run; of either library's own classes.
    """
    import torch

    from gradcam_service.runtime._export import exported

    graph = _open(exported(work), precision)

    def features(images: Tensor) -> Tensor:
        (found,) = graph(images.numpy())
        return torch.from_numpy(found)

    return features


RUNTIME = Runtime(
    _build, devices=("cpu",), races=("float32",), open=_open, libraries=("onnxruntime", "onnxruntime-gpu")
)
