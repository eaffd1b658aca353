"""Every metric of the service, declared once.

API processes and workers write to memory-mapped files in ``PROMETHEUS_MULTIPROC_DIR`` (set before this module is
imported), so that ``/metrics`` of any API process tells the sum over all of them:
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from multiprocessing import current_process

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    start_http_server,
    values,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from gradcam_service.registry.listing import version_order

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Files go by the name of a process, not by its id: one that is started again goes on counting where the dead one
    # ended, and however often it dies, it leaves no more of them.
    values.ValueClass = values.MultiProcessValue(lambda: current_process().name)  # type: ignore[no-untyped-call]

GONE_VERSIONS = 5
"""How many versions of a model that are no longer loaded are told of."""

LABELS = {
    "endpoint": "route of the request, as `/predict` or `/models/{name}`; `unknown` where there is none",
    "inference": "`true` for predictions and explanations, whatever protocol asks; `false` for all else",
    "model": "name of the model; empty where a request was answered before its model was known",
    "version": f"of the model; of those that are no longer loaded, the {GONE_VERSIONS} highest of each model are told",
    "digest": "of the version's files, as answers give it",
    "method": "explanation method; empty for predictions",
    "iterative": "`true` for what runs in chunks: methods of many forward passes, and `quality`; else `false`",
    "status": "of HTTP; 0 where not a word was sent",
    "fault": "`caller` or `service`, whose fault a failure is; empty where there is none",
    "caller": "name of the API key, or `admin token`",
    "stage": "`read`, `decode`, `queue`, `forward`, `backward` or `render`",
    "reason": "a problem's `code`, or what ended a worker: `SIGKILL`, `exit 1`, `hung`",
    "device": "of a worker: `cpu`, `cuda:0`; `cuda:0:1` for the second of two workers on it",
}
"""What each label holds. None holds what a caller typed, so that callers can't make more series."""

_MILLISECONDS = (1, 2.5, 5, 10, 25, 50, 75, 100, 150, 250, 350, 500, 750, 1000, 2500, 5000, 10_000)
_SECONDS = tuple(bound / 1e3 for bound in _MILLISECONDS)

REQUESTS = Counter(
    "gradcam_requests_total",
    "Requests answered; of failures, by whose fault they are: the caller's or the service's.",
    ["endpoint", "inference", "model", "version", "method", "status", "fault"],
)
CALLER_REQUESTS = Counter("gradcam_caller_requests_total", "Requests answered, by name of the API key.", ["caller"])
DURATION = Histogram(
    "gradcam_request_duration_seconds",
    "From a request's first byte to its answer.",
    ["endpoint", "model", "method", "iterative"],
    buckets=_SECONDS,
)
STAGE = Histogram(
    "gradcam_stage_duration_seconds",
    "Time an image or request spends in one stage.",
    ["stage", "model"],
    buckets=_SECONDS,
)
BATCH_SIZE = Histogram(
    "gradcam_batch_size", "Images in one forward pass.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
QUEUE_DEPTH = Gauge("gradcam_queue_depth", "Images waiting for the device.", ["device"], multiprocess_mode="livesum")
IN_FLIGHT = Gauge("gradcam_in_flight", "Images accepted and not yet answered.", multiprocess_mode="livesum")
QUEUE_SIZE = Gauge(
    "gradcam_queue_size", "Images that may be accepted and not yet answered.", multiprocess_mode="livesum"
)
REJECTED = Counter("gradcam_rejected_total", "Requests refused or failed, by problem code.", ["reason"])
WORKER_UP = Gauge("gradcam_worker_up", "1 while the device's worker runs.", ["device"], multiprocess_mode="mostrecent")
WORKER_RESTARTS = Counter("gradcam_worker_restarts_total", "Workers started again.", ["device", "reason"])
MODEL_INFO = Gauge(
    "gradcam_model_info", "1 for each model that is ready.", ["model", "version", "digest"], multiprocess_mode="livemax"
)
MODEL_FAILED = Gauge(
    "gradcam_model_failed", "1 for each model that can't be loaded.", ["model", "version"], multiprocess_mode="livemax"
)
REPOSITORIES_UNREADABLE = Gauge(
    "gradcam_repositories_unreadable",
    "1 while the model repositories, or a model's aliases.yaml, can't be read.",
    multiprocess_mode="livemax",
)
API_KEYS_UNUSABLE = Gauge(
    "gradcam_api_keys_unusable",
    "1 while the file of API keys can't be read, or a line of it, or holds no key.",
    multiprocess_mode="livemax",
)
MODEL_LOAD = Histogram(
    "gradcam_model_load_duration_seconds",
    "From reading model.yaml to ready.",
    ["model"],
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
DEVICE_MEMORY = Gauge(
    "gradcam_device_memory_bytes",
    "Memory the worker holds on its device (on a CPU: its resident memory).",
    ["device"],
    multiprocess_mode="livesum",
)
DEVICE_MEMORY_TOTAL = Gauge(
    "gradcam_device_memory_total_bytes",
    "Memory that the device has (a CPU: the machine's, or as much as its container may use).",
    ["device"],
    multiprocess_mode="livemax",
)


def exposition() -> bytes:
    """All metrics of all processes in Prometheus's text format."""
    return generate_latest(_of_all_processes())


def families() -> Iterable[Metric]:
    """All metrics of all processes, with their samples."""
    return _of_all_processes().collect()


def serve(host: str, port: int) -> None:
    """Answer ``/metrics`` on a port of its own, from a thread.

    Raises:
        OSError: it can't be listened on.
    """
    start_http_server(port, host, _of_all_processes())


def _of_all_processes() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_BoundedVersions(None))  # type: ignore[no-untyped-call]
    return registry


class _BoundedVersions(multiprocess.MultiProcessCollector):
    """Tells of all processes, but not of every version that ever was, as their files do.

    Gauges of a version go with it. Counters stay for a while, or what was counted since Prometheus last asked would be
    lost: those of the `GONE_VERSIONS` highest.
    """

    def collect(self) -> Iterable[Metric]:
        """Every metric, with its samples."""
        families = {family.name: family for family in super().collect()}  # type: ignore[no-untyped-call]
        ready, failed = families.get("gradcam_model_info"), families.get("gradcam_model_failed")
        answering = {_version(sample) for sample in ready.samples if sample.value} if ready else set()
        if ready and failed:
            ready.samples = [sample for sample in ready.samples if sample.value]
            failed.samples = [sample for sample in failed.samples if sample.value or _version(sample) in answering]
        if requests := families.get("gradcam_requests"):
            dropped = _dropped({_version(sample) for sample in requests.samples} - answering)
            requests.samples = [sample for sample in requests.samples if _version(sample) not in dropped]
        return families.values()


def _version(sample: Sample) -> tuple[str, str]:
    """(model, version) that a sample is of."""
    return sample.labels["model"], sample.labels["version"]


def _dropped(gone: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of versions that are gone, all but each model's highest."""
    by_model: dict[str, list[str]] = {}
    for model, version in sorted(gone, key=lambda one: version_order(one[1])):
        by_model.setdefault(model, []).append(version)
    return {(model, version) for model, versions in by_model.items() for version in versions[:-GONE_VERSIONS]}


def forget_process(name: str) -> None:
    """Take a dead process's gauges out of the sums; what it counted stays."""
    multiprocess.mark_process_dead(name)  # type: ignore[no-untyped-call]
