"""What kubectl makes of the manifests, and what is asked about it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from repository import ROOT

from .prometheus import installed

MANIFESTS = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(folder.name for folder in (MANIFESTS / "overlays").iterdir())
BUCKETS = [f"{overlay}+s3" for overlay in OVERLAYS]
KUBERNETES = ("1.30", "1.37")
CUSTOM = ("InterceptorRoute", "PrometheusRule", "ScaledObject", "ServiceMonitor")

Manifest = dict[str, Any]


@cache
def render(overlay: str) -> list[Manifest]:
    """What an overlay is, alone or with parts that any can be given: ``gpu+s3+monitoring``."""
    overlay, *parts = overlay.split("+")
    if not parts:
        return built(MANIFESTS / ("" if overlay == "example" else "overlays") / overlay)
    components = [part for part in parts if part in COMPONENTS]
    resources = [f"overlays/{overlay}", *(part for part in parts if part not in COMPONENTS)]
    with tempfile.TemporaryDirectory() as folder:
        return built(written(Path(folder), {"resources": resources, "components": components}))


COMPONENTS = {
    file.parent.name for file in MANIFESTS.glob("*/kustomization.yaml") if "\nkind: Component\n" in file.read_text()
}


def written(folder: Path, mine: dict[str, Any]) -> Path:
    """The folder, with an overlay of somebody's own; its parts are named as seen from the manifests."""
    there = os.path.relpath(MANIFESTS, folder.resolve())
    parts = {key: [f"{there}/{part}" for part in mine.get(key, [])] for key in ("resources", "components")}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "gradcam"} | mine | parts))
    return folder


def built(folder: Path) -> list[Manifest]:
    """What kubectl makes of a kustomization."""
    result = subprocess.run([installed("kubectl"), "kustomize", folder], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    return list(yaml.safe_load_all(result.stdout))


def find(overlay: str, kind: str) -> Manifest:
    found = [manifest for manifest in render(overlay) if manifest["kind"] == kind]
    assert len(found) == 1, f"{kind} in {overlay}: {len(found)}"
    return found[0]


def pod_of(overlay: str) -> Manifest:
    pod: Manifest = find(overlay, "Deployment")["spec"]["template"]["spec"]
    return pod


def container_of(overlay: str) -> Manifest:
    container: Manifest = pod_of(overlay)["containers"][0]
    return container


def environment_of(overlay: str) -> dict[str, str]:
    """The variables that don't come from a Secret."""
    return {variable["name"]: variable["value"] for variable in container_of(overlay)["env"] if "value" in variable}


def names_of(overlay: str) -> list[str]:
    """All variables."""
    return [variable["name"] for variable in container_of(overlay)["env"]]


def size_of(overlay: str, volume: str) -> int:
    """Most bytes that a volume may hold."""
    limits = {one["name"]: one["emptyDir"]["sizeLimit"] for one in pod_of(overlay)["volumes"] if one.get("emptyDir")}
    return bytes_of(limits[volume])


def bytes_of(quantity: str) -> int:
    units = {"Mi": 2**20, "Gi": 2**30}
    return int(quantity[:-2]) * units[quantity[-2:]]


def variant_of(overlay: str) -> str:
    """What an overlay's image is beside the one for a CPU: its tag's end."""
    if container_of(overlay)["resources"]["limits"].get("nvidia.com/gpu", 0):
        return "-cuda"
    return "-slim" if overlay.startswith("slim") else ""


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def asked_by(container: Manifest, probe: str) -> Manifest:
    """What a probe of a container asks for over HTTP."""
    action: Manifest = container.get(probe, {}).get("httpGet", {})
    return action


def security_of(thing: Manifest) -> Manifest:
    """The security context of a pod or a container."""
    context: Manifest = thing.get("securityContext", {})
    return context


overlays = pytest.mark.parametrize("overlay", [*OVERLAYS, *BUCKETS])
watched = pytest.mark.parametrize("overlay", [*(f"{overlay}+monitoring" for overlay in OVERLAYS), "example"])
