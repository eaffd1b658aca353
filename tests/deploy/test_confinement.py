"""Pods are confined, as the pod security standard "restricted" has it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from .manifests import PROBES, Manifest, asked_by, find, overlays, pod_of, security_of

ALLOWED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
}


def offences(pod: Manifest) -> list[str]:
    """What the pod security standard "restricted" (and "baseline", of which it is more) forbids in this pod."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    options = ("sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile")
    found += [name for name in options if name in security_of(pod)]
    found += [f"volume {v['name']}" for v in pod.get("volumes", []) if not v.keys() - {"name"} <= ALLOWED_VOLUMES]
    for container in [*pod.get("initContainers", []), *pod["containers"], *pod.get("ephemeralContainers", [])]:
        own = security_of(container)
        both = security_of(pod) | own
        capabilities = own.get("capabilities", {})
        rules = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "privileged": not own.get("privileged"),
            "capabilities.drop": "ALL" in capabilities.get("drop", []),
            "capabilities.add": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser") != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "options": not own.keys() & {"seLinuxOptions", "windowsOptions", "appArmorProfile"},
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
            "host": not any("host" in asked_by(container, probe) for probe in PROBES),
        }
        found += [rule for rule, held in rules.items() if not held]
        # Not in the standard, and as easily held to.
        found += [] if own.get("readOnlyRootFilesystem") else ["readOnlyRootFilesystem"]
    return found


@overlays
def test_pods_are_confined(overlay: str):
    assert offences(pod_of(overlay)) == []
    assert find(overlay, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("offence", "commit"),
    [
        ("hostNetwork", lambda pod: pod.update(hostNetwork=True)),
        ("sysctls", lambda pod: security_of(pod).update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
        ("volume tmp", lambda pod: pod["volumes"].append({"name": "tmp", "hostPath": {"path": "/tmp"}})),
        ("runAsNonRoot", lambda pod: security_of(pod).pop("runAsNonRoot")),
        ("runAsUser", lambda pod: security_of(pod).update(runAsUser=0)),
        ("seccompProfile", lambda pod: security_of(pod).pop("seccompProfile")),
        ("allowPrivilegeEscalation", lambda pod: security_of(pod["initContainers"][0]).pop("allowPrivilegeEscalation")),
        ("privileged", lambda pod: security_of(pod["containers"][0]).update(privileged=True)),
        ("capabilities.drop", lambda pod: security_of(pod["containers"][0]).pop("capabilities")),
        ("capabilities.add", lambda pod: security_of(pod["containers"][0])["capabilities"].update(add=["NET_ADMIN"])),
        ("procMount", lambda pod: security_of(pod["containers"][0]).update(procMount="Unmasked")),
        ("options", lambda pod: security_of(pod["containers"][0]).update(appArmorProfile={"type": "Unconfined"})),
        ("hostPort", lambda pod: pod["containers"][0]["ports"][0].update(hostPort=8000)),
        ("host", lambda pod: asked_by(pod["containers"][0], "livenessProbe").update(host="10.0.0.1")),
        ("readOnlyRootFilesystem", lambda pod: security_of(pod["containers"][0]).pop("readOnlyRootFilesystem")),
    ],
)
def test_an_offence_would_be_seen(offence: str, commit: Callable[[Manifest], object]):
    pod = copy.deepcopy(pod_of("cpu"))
    commit(pod)
    assert offence in offences(pod)
