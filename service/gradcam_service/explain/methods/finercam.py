"""Finer-CAM: Zhang et al., CVPR 2025, https://arxiv.org/abs/2501.11309; it is the Grad-CAM of `Finer`."""

from __future__ import annotations

from gradcam_service.explain.method import Batched, Option
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.objectives import Finer

METHOD = Batched(
    title="Finer-CAM",
    summary="what tells {target} from the classes most like it",
    paper="https://arxiv.org/abs/2501.11309",
    options={
        "gamma": Option(default=1.0, ge=0, le=10, description="how much of similar classes is taken away"),
        "references": Option(default=3, ge=1, le=100, description="how many similar classes"),
    },
    classes_only="it compares a class with those most like it by itself",
    maps=gradcam,
    objective=Finer,
)
