"""A real Prometheus with the configuration that is deployed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from live import PATIENCE, free_port, fresh, until
from repository import ROOT

DEPLOY = ROOT / "deploy"


@dataclass
class Prometheus:
    """A running Prometheus."""

    client: httpx.Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples of an instant query, those that aren't a number left out."""
        response = self.client.get("/api/v1/query", params={"query": expression})
        assert response.status_code == 200, response.text
        return [sample for sample in response.json()["data"]["result"] if sample["value"][1] != "NaN"]

    def alerts(self) -> set[tuple[str, str]]:
        """(name, severity) of every alert that is pending or firing."""
        return {(one["labels"]["alertname"], one["labels"]["severity"]) for one in self.listed_alerts()}

    def listed_alerts(self) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return alerts


def installed(program: str) -> str:
    """Where a program of the system is; without it the test is skipped. Those that Debian has .ci/run installs."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")  # where Debian has haproxy
    if found is None:
        pytest.skip(f"there is no {program}")
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([installed("promtool"), *arguments], capture_output=True, text=True)


@contextmanager
def watching(url: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus as deployed, but for the address of the one instance and how often it looks."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in config["rule_files"]]
    (scrape,) = config["scrape_configs"]
    del scrape["dns_sd_configs"]
    scrape["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "web.listen-address": address}
    command = [installed("prometheus"), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        with fresh(f"http://{address}") as client:
            until(lambda: _ready(client))
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
