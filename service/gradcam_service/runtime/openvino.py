"""OpenVINO, on a CPU: blocked layouts and fused operators, in bfloat16 where the processor has units for it.

See https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/cpu-device.html.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import local
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradcam_service.runtime import Graph, Runtime, Workload
from gradcam_service.runtime._threads import computing

if TYPE_CHECKING:
    import openvino

    from gradcam_service.explain.network import Backbone


@cache
def core() -> openvino.Core:
    """OpenVINO itself, imported only where it is to compute: there isn't one for every platform.

    Its tools are left out. Nothing here needs them, and their import is told to Google Analytics
    (https://docs.openvino.ai/2026/about-openvino/additional-resources/telemetry.html).

    Raises:
        ImportError: there is none for this one.
    """
    sys.modules.setdefault("openvino.tools.ovc", cast("ModuleType", None))  # which makes its import fail
    from openvino import Core

    return Core()


def has_bfloat16() -> bool:
    """Whether the processor has units for bfloat16; without them it would be emulated, slower than float32."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compiled(work: Workload, precision: str) -> openvino.CompiledModel:
    """Compile the backbone, an ONNX model, for any number of images; what was compiled before is read.

    Raises:
        ImportError: there is no OpenVINO for this platform.
        Exception: an operator can't be exported or compiled, or the processor has no units for the precision.
    """
    from gradcam_service.runtime._export import exported

    return _compiled(exported(work), precision, work.folder)


def _compiled(source: bytes | Path, precision: str, folder: Path | None) -> openvino.CompiledModel:
    if not _has_units(precision):
        raise RuntimeError("the processor has no units for bfloat16")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": computing(),
        "ENABLE_HYPER_THREADING": True,  # as many threads as torch has, whatever kind of cores they are on
        "ENABLE_CPU_PINNING": False,  # other threads and processes want the same cores
    }
    if folder is None:
        return core().compile_model(core().read_model(source), "CPU", settings)
    settings["CACHE_DIR"] = str(folder)
    _delete_damaged(folder)
    model = core().compile_model(core().read_model(source), "CPU", settings)
    _write_digests(folder)
    return model


def _open(model: bytes | Path, precision: str, folder: Path | None = None) -> Graph:
    """Compile an ONNX model, or the file of one, as a function of arrays; see `compiled`."""
    compiled_model = _compiled(model, precision, folder)
    requests, outputs = local(), len(compiled_model.outputs)  # one computes for one thread at a time

    def computed(*inputs: np.ndarray) -> list[np.ndarray]:
        if not hasattr(requests, "own"):
            requests.own = compiled_model.create_infer_request()
        contiguous = {place: np.ascontiguousarray(values) for place, values in enumerate(inputs)}
        found = requests.own.infer(contiguous, share_inputs=True)
        return [found[place] for place in range(outputs)]

    return computed


def _delete_damaged(folder: Path) -> None:
    """Delete what was compiled and is not as it was written: OpenVINO would compute with whatever weights it finds."""
    for blob in folder.glob("*.blob"):
        with suppress(OSError):
            digest = _digest_file(blob)
            if not digest.exists() or digest.read_bytes() != _digest(blob).encode():
                blob.unlink()
                digest.unlink(missing_ok=True)


def _write_digests(folder: Path) -> None:
    for blob in folder.glob("*.blob"):
        with suppress(OSError):  # a disk that takes nothing more costs compiling it again
            if not _digest_file(blob).exists():
                _digest_file(blob).write_text(_digest(blob))


def _digest_file(blob: Path) -> Path:
    return blob.with_suffix(".sha256")


def _digest(blob: Path) -> str:
    with blob.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(work: Workload, precision: str) -> Backbone:
    """Compile the backbone; see `compiled`."""
    import torch

    from gradcam_service.runtime._export import exported

    graph = _open(exported(work), precision, work.folder)
    return lambda images: torch.from_numpy(graph(images.numpy())[0])


def _has_units(precision: str) -> bool:
    return precision == "float32" or has_bfloat16()


RUNTIME = Runtime(
    _build,
    devices=("cpu",),
    precisions=("float32", "bfloat16"),
    races=("float32", "bfloat16"),
    has_units=_has_units,
    copies=2,
    open=_open,
    libraries=("openvino",),
)
