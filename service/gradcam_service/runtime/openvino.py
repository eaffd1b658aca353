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

import torch
from torch import Tensor

from gradcam_service.explain.network import Backbone
from gradcam_service.runtime import Runtime, Workload
from gradcam_service.runtime._export import exported

if TYPE_CHECKING:
    import openvino


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
    if not _has_units(precision):
        raise RuntimeError("the processor has no units for bfloat16")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_HYPER_THREADING": True,  # as many threads as torch has, whatever kind of cores they are on
        "ENABLE_CPU_PINNING": False,  # other threads and processes want the same cores
    }
    if work.folder is None:
        return core().compile_model(core().read_model(exported(work)), "CPU", settings)
    settings["CACHE_DIR"] = str(work.folder)
    _delete_damaged(work.folder)
    model = core().compile_model(core().read_model(exported(work)), "CPU", settings)
    _write_digests(work.folder)
    return model


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
    model = compiled(work, precision)
    requests = local()  # one computes for one thread at a time

    def features(images: Tensor) -> Tensor:
        if not hasattr(requests, "own"):
            requests.own = model.create_infer_request()
        found = requests.own.infer({0: images.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(found[0])

    return features


def _has_units(precision: str) -> bool:
    return precision == "float32" or has_bfloat16()


RUNTIME = Runtime(
    _build,
    devices=("cpu",),
    precisions=("float32", "bfloat16"),
    races=("float32", "bfloat16"),
    has_units=_has_units,
)
