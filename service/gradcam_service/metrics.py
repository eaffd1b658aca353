"""Every metric of the service, declared once.

API processes and workers write to memory-mapped files in ``PROMETHEUS_MULTIPROC_DIR`` (set before this module is
imported), so that ``/metrics`` of any API process tells the sum over all of them:
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    start_http_server,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("gradcam_requests_total", "Requests answered.", ["endpoint", "model", "method", "status"])
CALLER_REQUESTS = Counter("gradcam_caller_requests_total", "Requests answered, by name of the API key.", ["caller"])
DURATION = Histogram(
    "gradcam_request_duration_seconds",
    "From a request's first byte to its answer.",
    ["endpoint", "model", "method"],
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


def serve(host: str, port: int) -> None:
    """Answer ``/metrics`` on a port of its own, from a thread.

    Raises:
        OSError: it can't be listened on.
    """
    start_http_server(port, host, _of_all_processes())


def _of_all_processes() -> CollectorRegistry:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def forget_process(pid: int) -> None:
    """Take a dead process's gauges out of the sums."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
