"""Metrics are few, whatever happens: a version that is gone goes from what is told, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gradcam_service import metrics

VERSIONS = """
from gradcam_service import metrics

for version in [*range(1, 13), "nightly"]:
    metrics.MODEL_INFO.labels("scenes", version, "sha256:0").set(version in (1, 12))
    metrics.MODEL_FAILED.labels("scenes", version).set(version == 3)
    metrics.REQUESTS.labels("/predict", "true", "scenes", version, "", 200, "").inc()
metrics.REQUESTS.labels("/livez", "false", "", "", "", 200, "").inc()
print(metrics.exposition().decode())
"""


def told(folder: Path) -> dict[str, set[str]]:
    """Metric → the versions that it is told of, in a process that has seen thirteen of which two are ready."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", VERSIONS]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    return {name: {one.labels.get("version", "") for one in samples} for name, samples in families.items()}


def test_of_versions_that_are_gone_the_five_highest_are_told_besides_those_that_are_ready(tmp_path: Path):
    versions = told(tmp_path)
    assert versions["gradcam_requests"] == {"", "1", "7", "8", "9", "10", "11", "12"}
    assert versions["gradcam_model_info"] == {"1", "12"}
    assert versions["gradcam_model_failed"] == {"1", "3", "12"}


def test_every_label_is_explained_and_none_that_there_is_not():
    defined = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge | Histogram)]
    assert len(defined) >= 15
    assert {label for one in defined for label in one._labelnames} == set(metrics.LABELS)
