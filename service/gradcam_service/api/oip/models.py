"""Models as the protocol tells of them: metadata, Triton's configuration, the repository's index, and statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from gradcam_service.api.oip.faces import PREPARED, Faced, Slot, every, find
from gradcam_service.registry.listing import Model

_PLATFORM = "gradcam_service"
_LABELS = "labels.txt"
"""A file's name says that scores have labels; the classification extension tells them."""
_STATES = {"ready": "READY", "loading": "LOADING", "unloaded": "UNAVAILABLE", "failed": "UNAVAILABLE"}
_STAGES = {
    "queue": ("queue",),
    "compute_input": ("decode",),
    "compute_infer": ("forward", "backward"),
    "compute_output": ("render",),
}
"""Triton's durations, and the stages of ours that they are."""


def metadata(faced: Faced) -> dict[str, Any]:
    """A face's inputs and outputs, each with the dimension of the batch; what isn't known before a load is −1."""

    def told(slot: Slot) -> dict[str, Any]:
        return {"name": slot.name, "datatype": slot.datatype, "shape": [-1, *slot.shape]}

    card = faced.model.card
    return {
        "name": faced.name,
        "versions": list(faced.versions),
        "platform": _PLATFORM,
        "inputs": [told(faced.face.input(card))],
        "outputs": [told(slot) for slot in faced.face.slots(card)],
    }


def config(faced: Faced, most_images: int) -> dict[str, Any]:
    """A face as Triton's ModelConfig, in the JSON of its protobuf; dimensions are those of one image."""

    def told(slot: Slot) -> dict[str, Any]:
        datatype = {"BYTES": "STRING"}.get(slot.datatype, slot.datatype)
        said = {"name": slot.name, "data_type": f"TYPE_{datatype}", "dims": list(slot.shape)}
        labelled = {"label_filename": _LABELS} if slot.name == "scores" else {}
        # Without dimensions of its own, a value for each image is a scalar.
        return said | labelled if slot.shape else said | {"dims": [1], "reshape": {"shape": []}}

    taken = told(faced.face.input(faced.model.card))
    return {
        "name": faced.name,
        "platform": _PLATFORM,
        "backend": _PLATFORM,
        "max_batch_size": most_images,
        "input": [taken | {"format": "FORMAT_NCHW"} if faced.face is PREPARED else taken],
        "output": [told(slot) for slot in faced.face.slots(faced.model.card)],
        "dynamic_batching": {},
    }


def index(models: Sequence[Model], *, ready: bool) -> list[dict[str, Any]]:
    """Every face of every version, and its state; of those alone that are ready, where that is asked."""
    return [
        {"name": name, "version": model.version, "state": _STATES[model.state], "reason": model.reason}
        for name, _, real in every(models)
        for model in models
        if model.name == real and (model.state == "ready" or not ready)
    ]


def statistics(metrics: Iterable[Metric], faced: Iterable[Faced]) -> dict[str, Any]:
    """What has been asked of models, over all of their versions and faces, whatever protocol asked, since the start."""
    sums: dict[tuple[str, str, str], float] = defaultdict(float)
    for sample in (sample for metric in metrics for sample in metric.samples):
        labels = sample.labels
        if labels.get("inference") != "false" and "model" in labels:
            sums[sample.name, labels["model"], labels.get("stage") or _outcome(labels)] += sample.value
    return {"model_stats": [_of(one, sums) for one in faced]}


def each(models: Sequence[Model]) -> Iterator[Faced]:
    """Each model by its own name."""
    return (find(models, name) for name in sorted({model.name for model in models}))


def _outcome(labels: Mapping[str, str]) -> str:
    return "" if "status" not in labels else "success" if labels["status"].startswith("2") else "fail"


def _of(faced: Faced, sums: dict[tuple[str, str, str], float]) -> dict[str, Any]:
    name = faced.model.name

    def duration(count: float, seconds: float) -> dict[str, int]:
        return {"count": int(count), "ns": int(seconds * 1e9)}

    def stage(stages: Sequence[str]) -> dict[str, int]:
        counts = [sums["gradcam_stage_duration_seconds_count", name, stage] for stage in stages]
        return duration(max(counts), sum(sums["gradcam_stage_duration_seconds_sum", name, stage] for stage in stages))

    answered, failed = (sums["gradcam_requests_total", name, outcome] for outcome in ("success", "fail"))
    seconds = sums["gradcam_request_duration_seconds_sum", name, ""]
    share = answered / max(answered + failed, 1)
    return {
        "name": faced.name,
        "version": faced.model.version,
        "inference_count": int(sums["gradcam_batch_size_sum", name, ""]),
        "execution_count": int(sums["gradcam_batch_size_count", name, ""]),
        "inference_stats": {
            "success": duration(answered, seconds * share),
            "fail": duration(failed, seconds * (1 - share)),
            **{told: stage(stages) for told, stages in _STAGES.items()},
        },
        "batch_stats": [],
    }
