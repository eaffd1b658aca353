"""The overlays of the image without torch, and how their pods come and go."""

from __future__ import annotations

from .manifests import find, render


def test_slim_pods_are_scaled_from_one_by_the_cpu_and_from_none_by_who_holds_requests_meanwhile():
    autoscaler, scaler = find("slim", "HorizontalPodAutoscaler")["spec"], find("slim-keda", "ScaledObject")["spec"]
    (metric,) = autoscaler["metrics"]
    assert (metric["resource"]["name"], autoscaler["minReplicas"], scaler["minReplicaCount"]) == ("cpu", 1, 0)
    assert scaler["maxReplicaCount"] == autoscaler["maxReplicas"]
    route, service = find("slim-keda", "InterceptorRoute"), find("slim-keda", "Service")
    (trigger,) = scaler["triggers"]
    assert trigger["metadata"]["interceptorRoute"] == route["metadata"]["name"]
    assert route["spec"]["target"]["service"] == service["metadata"]["name"]
    assert route["spec"]["target"]["portName"] in {port["name"] for port in service["spec"]["ports"]}
    for overlay, kind in (("slim", "ScaledObject"), ("slim-keda", "HorizontalPodAutoscaler")):
        assert not [manifest for manifest in render(overlay) if manifest["kind"] == kind]
        assert "replicas" not in find(overlay, "Deployment")["spec"]
    rules = find("slim-keda", "NetworkPolicy")["spec"]["ingress"]
    (callers,) = (rule for rule in rules if {"port": "http"} in rule["ports"])
    assert callers["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
