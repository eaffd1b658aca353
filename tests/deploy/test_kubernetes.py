"""The manifests: what a cluster takes, and what the service is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from annotated_types import Le
from botocore.utils import ContainerMetadataFetcher

import operator_rules
from gradcam_service import serving
from gradcam_service.api import operations
from gradcam_service.settings import Settings, misspelt
from repository import ROOT, VERSION, image_environment, instructions

from .manifests import (
    BUCKETS,
    CUSTOM,
    KUBERNETES,
    OVERLAYS,
    PROBES,
    asked_by,
    built,
    bytes_of,
    container_of,
    environment_of,
    find,
    names_of,
    overlays,
    pod_of,
    render,
    security_of,
    size_of,
    variant_of,
    watched,
    written,
)

INTERCEPTOR_ROUTE = json.loads(Path(__file__).with_name("http_add_on_schema.json").read_text())


@pytest.mark.parametrize("overlay", [*OVERLAYS, *(f"{overlay}+ingress+monitoring" for overlay in BUCKETS), "example"])
@pytest.mark.parametrize("version", KUBERNETES)
def test_a_cluster_takes_every_object(overlay: str, version: str):
    for manifest in render(overlay):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


@watched
def test_the_operators_take_theirs(overlay: str):
    # Here, as they are so many classes that every process which collects this test would need five seconds for them.
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

    models = {"PrometheusRule": PrometheusRule, "ScaledObject": ScaledObject, "ServiceMonitor": ServiceMonitor}
    custom = [manifest for manifest in render(overlay) if manifest["kind"] in CUSTOM]
    assert custom
    for manifest in custom:
        if manifest["kind"] == "InterceptorRoute":
            jsonschema.validate(manifest, INTERCEPTOR_ROUTE)
            continue
        read = models[manifest["kind"]].model_validate(manifest)
        # What the model doesn't know it drops.
        assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == manifest


@overlays
def test_the_pod_is_the_image(overlay: str):
    pod, environment = pod_of(overlay), image_environment()
    assert f"{security_of(pod)['runAsUser']}:{security_of(pod)['runAsGroup']}" == instructions("USER")[-1]
    writable = {m["mountPath"] for m in container_of(overlay)["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", "/dev/shm", environment["XDG_CACHE_HOME"]}
    assert environment["TORCH_HOME"].startswith(environment["XDG_CACHE_HOME"])
    image, _, tag = container_of(overlay)["image"].partition(":")
    assert (image, tag) == ("gradcam-service", VERSION + variant_of(overlay))


@overlays
def test_the_service_understands_its_environment(overlay: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment_of(overlay).items():
        monkeypatch.setenv(name, value)
    assert list(misspelt(dict.fromkeys(names_of(overlay), ""))) == []
    settings = Settings()
    assert settings.api_keys
    mounts = {mount["mountPath"]: mount for mount in container_of(overlay)["volumeMounts"]}
    folders = [place for place in settings.model_repository if "://" not in place]
    assert all(mounts[path]["readOnly"] for path in (*folders, str(settings.api_keys.parent)))
    assert settings.device == ("cuda:0" if variant_of(overlay) == "-cuda" else "cpu")


@overlays
def test_kubernetes_adds_no_setting_of_its_own(overlay: str):
    # A Service "gradcam" would make GRADCAM_PORT tcp://….
    assert pod_of(overlay)["enableServiceLinks"] is False


@overlays
def test_what_is_written_has_room(overlay: str):
    assert int(environment_of(overlay)["GRADCAM_CACHE_BYTES"]) <= 0.8 * size_of(overlay, "cache")
    assert size_of(overlay, "shm") >= 2 * serving._ROOM
    limit = container_of(overlay)["resources"]["limits"]["memory"]
    assert size_of(overlay, "shm") < bytes_of(limit)  # of which it is a part


@overlays
def test_threads_are_as_many_as_the_cores_that_are_requested(overlay: str):
    container = container_of(overlay)
    (variable,) = [one for one in container["env"] if one["name"] == "GRADCAM_CPUS"]
    assert variable["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}
    requested = container["resources"]["requests"]["cpu"]  # of which the variable has the next whole number
    assert requested == "500m" if overlay.startswith("slim") else int(requested) >= 1
    assert "cpu" not in container["resources"]["limits"]


@overlays
def test_management_is_there_for_those_who_made_a_token(overlay: str):
    (variable,) = [one for one in container_of(overlay)["env"] if one["name"] == "GRADCAM_ADMIN_TOKEN"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "gradcam-admin", "key": "token", "optional": True}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_repository_is_what_the_init_container_filled(overlay: str):
    (init,) = pod_of(overlay)["initContainers"]
    (filled,) = init["volumeMounts"]
    assert init["command"][-1].startswith(filled["mountPath"])
    read = {mount["name"]: mount["mountPath"] for mount in container_of(overlay)["volumeMounts"]}
    assert read[filled["name"]] == environment_of(overlay)["GRADCAM_MODEL_REPOSITORY"]


@overlays
def test_probes_ask_what_there_is(overlay: str):
    routes = {route.path for route in operations.router.routes}
    container = container_of(overlay)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    paths = {probe: asked_by(container, probe)["path"] for probe in PROBES}
    assert set(paths.values()) <= routes
    assert paths == {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert {ports[asked_by(container, probe)["port"]] for probe in PROBES} == {Settings.model_fields["port"].default}


@overlays
def test_there_is_time_to_finish(overlay: str):
    pod = pod_of(overlay)
    wait = container_of(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(environment_of(overlay).get("GRADCAM_DRAIN_SECONDS", Settings.model_fields["drain_seconds"].default))
    # The supervisor waits a second longer than the API processes, for them and the workers together.
    assert pod["terminationGracePeriodSeconds"] > wait + drain + 1


@overlays
def test_a_rollout_takes_no_pod_away_first(overlay: str):
    deployment = find(overlay, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    # Kubernetes' own are 600 seconds, in which 6 GB don't arrive at 10 MB/s.
    assert deployment["progressDeadlineSeconds"] >= 1800


@overlays
def test_selectors_find_the_pods(overlay: str):
    deployment, service = find(overlay, "Deployment"), find(overlay, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    selectors += [find(overlay, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
    if overlay.removesuffix("+s3") in ("autoscaled", "ha", "keda", "slim", "slim-keda"):
        selectors += [find(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
        selectors += [s["labelSelector"]["matchLabels"] for s in pod_of(overlay)["topologySpreadConstraints"]]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    ports = [port["name"] for port in container_of(overlay)["ports"]]
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ports
    rules = find(overlay, "NetworkPolicy")["spec"]["ingress"]
    assert [port["port"] for rule in rules for port in rule["ports"]] == ports


@pytest.mark.parametrize("overlay", BUCKETS)
def test_from_a_bucket_no_image_of_models_is_needed(overlay: str):
    pod, container = pod_of(overlay), container_of(overlay)
    assert not pod["initContainers"]
    mounted, volumes = ({one["name"] for one in found} for found in (container["volumeMounts"], pod["volumes"]))
    assert mounted == volumes
    assert pod["serviceAccountName"] == find(overlay, "ServiceAccount")["metadata"]["name"]
    assert container["envFrom"] == [{"secretRef": {"name": "gradcam-s3", "optional": True}}]
    out = find(overlay, "NetworkPolicy")["spec"]["egress"]
    assert [{(port["port"], port["protocol"]) for port in rule["ports"]} for rule in out] == [
        {(53, "UDP"), (53, "TCP")},
        {(443, "TCP")},
        {(80, "TCP")},
    ]


def test_roles_of_eks_pod_identity_are_in_reach():
    (agent,) = find("cpu+s3", "NetworkPolicy")["spec"]["egress"][-1]["to"]
    address, _, length = agent["ipBlock"]["cidr"].partition("/")
    # The hosts from which AWS's library takes credentials without TLS.
    assert address in ContainerMetadataFetcher._ALLOWED_HOSTS
    assert length == "32"


(BUCKET_PATCHES,) = re.findall(
    r"^```yaml\n(components: .*?)^```", (ROOT / "deploy/README.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_of_ones_own_names_bucket_and_role(overlay: str, tmp_path: Path):
    mine = yaml.safe_load(BUCKET_PATCHES)
    mine["components"] = [os.path.basename(component) for component in mine["components"]]
    found = built(written(tmp_path, {"resources": [f"overlays/{overlay}"], **mine}))
    kinds = {one["kind"]: one for one in found}
    for kind in ("Deployment", "ServiceAccount"):
        kubernetes_validate.validate(kinds[kind], KUBERNETES[0], strict=True)
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    changed = {one["name"] for one in container["env"] if one not in container_of(f"{overlay}+s3")["env"]}
    assert changed == {"GRADCAM_MODEL_REPOSITORY", "AWS_DEFAULT_REGION"}
    assert len(container["env"]) == len(container_of(f"{overlay}+s3")["env"])
    assert "eks.amazonaws.com/role-arn" in kinds["ServiceAccount"]["metadata"]["annotations"]
    assert "annotations" not in find(f"{overlay}+s3", "ServiceAccount")["metadata"]


@overlays
def test_nothing_else_calls_anybody(overlay: str):
    policy = find(overlay, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert bool(policy["egress"]) == (overlay in BUCKETS)


@overlays
def test_metrics_which_need_no_key_are_for_prometheus_alone(overlay: str):
    ports = {port["name"]: port["containerPort"] for port in container_of(overlay)["ports"]}
    assert ports["metrics"] == int(environment_of(overlay)["GRADCAM_METRICS_PORT"])
    rules = find(overlay, "NetworkPolicy")["spec"]["ingress"]
    (callers,) = [rule["from"] for rule in rules if {"port": "metrics"} in rule["ports"]]
    assert callers == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_no_way_in_from_outside_leads_to_the_metrics():
    (opened,) = [one["spec"]["ingress"] for one in render("example") if one["metadata"]["name"] == "gradcam-ingress"]
    assert [port for rule in opened for port in rule["ports"]] == [{"port": "http"}]


@watched
def test_prometheus_finds_the_metrics(overlay: str):
    service, monitor = find(overlay, "Service"), find(overlay, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == find(overlay, "PrometheusRule")["metadata"]["labels"]["release"]
    assert all("release" not in labels for labels in (service["metadata"]["labels"], service["spec"]["selector"]))
    (endpoint,) = monitor["spec"]["endpoints"]
    (target,) = [port["targetPort"] for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
    assert target == "metrics"
    assert endpoint["path"] in {route.path for route in operations.exposition.routes}


def test_the_operator_has_the_rules_that_prometheus_has():
    written = ROOT / "deploy/kubernetes/monitoring/prometheusrule.yaml"
    assert written.read_text() == operator_rules.text(), "make docs writes it again"
    files = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert find("ha+monitoring", "PrometheusRule")["spec"]["groups"] == groups


@watched
def test_grafana_gets_the_dashboard(overlay: str):
    dashboard = find(overlay, "ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    file = ROOT / "deploy/grafana/dashboards/gradcam.json"
    assert dashboard["data"] == {file.name: file.read_text()}
    # kubectl apply keeps the whole of it in an annotation, which may take 256 KiB.
    assert len(json.dumps(dashboard)) < 200_000


def test_callers_from_outside_come_as_far_as_the_service_lets_them():
    ingress, service = find("example", "Ingress"), find("example", "Service")
    (rule,) = ingress["spec"]["rules"]
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == (
        service["metadata"]["name"],
        service["spec"]["ports"][0]["name"],
    )
    fields = Settings.model_fields
    (longest,) = [bound.le for bound in fields["timeout_ms"].metadata if isinstance(bound, Le)]
    for size in ("nginx.org/client-max-body-size", "nginx.ingress.kubernetes.io/proxy-body-size"):
        assert int(ingress["metadata"]["annotations"][size].removesuffix("m")) << 20 > fields["max_body_bytes"].default
    for timeout in ("nginx.org/proxy-read-timeout", "nginx.ingress.kubernetes.io/proxy-read-timeout"):
        seconds = int(ingress["metadata"]["annotations"][timeout].removesuffix("s"))
        assert seconds > longest / 1e3  # type: ignore[operator]
    policies = {one["metadata"]["name"]: one["spec"] for one in render("example") if one["kind"] == "NetworkPolicy"}
    assert policies.keys() == {"gradcam", "gradcam-ingress"}
    assert policies["gradcam-ingress"]["podSelector"] == policies["gradcam"]["podSelector"]
    assert policies["gradcam-ingress"]["policyTypes"] == ["Ingress"]


def test_the_example_names_another_registry():
    (deployment,) = [one for one in render("example") if one["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    images = [container["image"] for container in (*pod["containers"], *pod["initContainers"])]
    assert [image.partition("/")[0] for image in images] == ["registry.example"] * 2
    assert "@sha256:" in images[0]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


GPU_PATCHES = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/gpu.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("patches", GPU_PATCHES, ids=["node", "several", "mig", "no spare"])
def test_the_patches_for_gpus_fit_the_overlay(patches: str, tmp_path: Path):
    overlay = os.path.relpath(ROOT / "deploy/kubernetes/overlays/gpu", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{overlay}]\n{patches}")
    (deployment,) = [one for one in built(tmp_path) if one["kind"] == "Deployment"]
    kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)
    assert deployment != find("gpu", "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (devices,) = [one["value"] for one in container["env"] if one["name"] == "GRADCAM_DEVICE"]
    gpus = sum(int(count) for name, count in container["resources"]["limits"].items() if name.startswith("nvidia.com/"))
    assert len(devices.split(",")) == gpus
