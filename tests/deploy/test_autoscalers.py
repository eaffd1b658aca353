"""What scales the pods: it asks for what the service measures, and for as many pods as its siblings do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gradcam_service import metrics
from repository import ROOT

from .manifests import CUSTOM, Manifest, container_of, find, render
from .prometheus import promtool


def series_of(query: str) -> set[str]:
    return set(re.findall(r"gradcam_\w+", query))


@pytest.fixture(scope="module")
def adapter() -> Manifest:
    """The rule of prometheus-adapter."""
    values = yaml.safe_load((ROOT / "deploy/kubernetes/overlays/ha/prometheus-adapter.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    found: Manifest = rule
    return found


def test_the_autoscaler_asks_for_what_the_adapter_has(adapter: Manifest):
    autoscaler = find("ha", "HorizontalPodAutoscaler")["spec"]
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"]["name"] == adapter["name"]["as"]
    assert (
        autoscaler["scaleTargetRef"].items()
        <= {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gradcam"}.items()
    )
    assert "replicas" not in find("ha", "Deployment")["spec"]


def test_the_simplest_autoscaler_asks_for_the_cpu():
    autoscaler = find("autoscaled", "HorizontalPodAutoscaler")["spec"]
    (metric,) = autoscaler["metrics"]
    assert (metric["type"], metric["resource"]["name"]) == ("Resource", "cpu")
    assert container_of("autoscaled")["resources"]["requests"]["cpu"]  # a share of which is the target
    assert autoscaler["scaleTargetRef"] == find("ha", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert "replicas" not in find("autoscaled", "Deployment")["spec"]
    assert not [manifest for manifest in render("autoscaled") if manifest["kind"] in CUSTOM]


def test_keda_scales_in_place_of_the_autoscaler(adapter: Manifest):
    assert not [manifest for manifest in render("keda") if manifest["kind"] == "HorizontalPodAutoscaler"]
    scaler, autoscaler = find("keda", "ScaledObject")["spec"], find("ha", "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicaCount"], scaler["maxReplicaCount"]) == (
        autoscaler["minReplicas"],
        autoscaler["maxReplicas"],
    )
    (trigger,) = scaler["triggers"]
    assert series_of(trigger["metadata"]["query"]) == series_of(adapter["metricsQuery"])
    assert f'namespace="{find("keda", "Deployment")["metadata"]["namespace"]}"' in trigger["metadata"]["query"]


@pytest.mark.parametrize(("waited", "expected"), [("0+6x20", 0.2), ("12+0x20", 0)], ids=["busy", "idle"])
def test_the_queries_give_the_average_wait(adapter: Manifest, waited: str, expected: float, tmp_path: Path):
    """Two pods of 30 images in 15 seconds, or none: 6 seconds of waiting in all, or none."""
    images = waited.replace("6", "30")
    series = [
        {"series": f'{metric}{{namespace="gradcam",pod="{pod}",model="scenes",stage="{stage}"}}', "values": values}
        for pod in ("a", "b")
        for stage in ("queue", "forward")
        for metric, values in (
            ("gradcam_stage_duration_seconds_sum", waited if stage == "queue" else "0+60x20"),
            ("gradcam_stage_duration_seconds_count", images),
        )
    ]
    (trigger,) = find("keda", "ScaledObject")["spec"]["triggers"]
    labels = {"<<.LabelMatchers>>": 'namespace="gradcam",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    query = re.sub("|".join(map(re.escape, labels)), lambda found: labels[found[0]], adapter["metricsQuery"])
    asked = [
        {"expr": trigger["metadata"]["query"], "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": expected}]},
        {
            "expr": query,
            "eval_time": "4m",
            "exp_samples": [{"labels": f'{{pod="{pod}"}}', "value": expected} for pod in ("a", "b")],
        },
    ]
    rules = tmp_path / "rules.yml"
    rules.write_text(
        yaml.safe_dump({"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": asked}]})
    )
    result = promtool("test", "rules", rules)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_adapter_asks_for_what_the_service_measures(adapter: Manifest):
    stage = next(iter(metrics.STAGE.describe())).name
    assert series_of(adapter["metricsQuery"]) == {f"{stage}_sum", f"{stage}_count"}
    assert series_of(adapter["seriesQuery"]) == {f"{stage}_sum"}
    assert 'stage="queue"' in adapter["metricsQuery"]
