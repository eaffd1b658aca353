"""CUDA graphs: a batch is one launch; see `gradcam_service.runtime._cuda_graphs`, which imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.runtime import Runtime, Workload

if TYPE_CHECKING:
    from gradcam_service.explain.network import Backbone


def _build(work: Workload, precision: str) -> Backbone:
    from gradcam_service.runtime._cuda_graphs import build

    return build(work, precision)


def _has_units(precision: str) -> bool:
    from gradcam_service.runtime._cuda_graphs import has_units

    return has_units(precision)


RUNTIME = Runtime(
    _build,
    devices=("cuda",),
    precisions=("float32", "bfloat16"),
    races=("float32", "bfloat16"),
    has_units=_has_units,
)
