"""What the service says at /metrics."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

LABELS = {  # metric → its labels; a histogram's own besides
    "gradcam_requests_total": {"endpoint", "inference", "model", "version", "method", "status", "fault"},
    "gradcam_request_duration_seconds": {"endpoint", "model", "method", "iterative"},
    "gradcam_stage_duration_seconds": {"stage", "model"},
    "gradcam_batch_size": {"model"},
    "gradcam_queue_depth": {"device"},
    "gradcam_in_flight": set(),
    "gradcam_queue_size": set(),
    "gradcam_rejected_total": {"reason"},
    "gradcam_worker_up": {"device"},
    "gradcam_model_info": {"model", "version", "digest"},
    "gradcam_model_failed": {"model", "version"},
    "gradcam_repositories_unreadable": set(),
    "gradcam_api_keys_unusable": set(),
    "gradcam_model_load_duration_seconds": {"model"},
    "gradcam_device_memory_bytes": {"device"},
    "gradcam_device_memory_total_bytes": {"device"},
}


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) → value of every sample."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(client: httpx.Client, name: str, **labels: str) -> float:
    """The sum of all samples of that name that have these labels."""
    return sum(number for (own, has), number in samples(client).items() if own == name and labels.items() <= has)
