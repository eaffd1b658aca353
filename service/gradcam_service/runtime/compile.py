"""TorchInductor: operators fused and compiled for this very machine, which needs a compiler on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcam_service.runtime import Runtime, Workload

if TYPE_CHECKING:
    from gradcam_service.explain.network import Backbone


def _build(work: Workload, precision: str) -> Backbone:
    """Compile it for one image and for any number of them, with its parameters as constants.

    Raises:
        Exception: there is no compiler, or it fails.
    """
    import torch

    from gradcam_service.explain.graph import TRACING

    compiled: Backbone = torch.compile(work.backbone, dynamic=True, options={"freezing": True})
    with TRACING:
        for example in (work.images, work.images[:1]):
            compiled(example)
    return compiled


RUNTIME = Runtime(_build, devices=("cpu", "cuda"))
