"""Writes the rules of this folder for the Prometheus operator, too, which takes them as an object: ``make docs``."""

from __future__ import annotations

from pathlib import Path

import yaml

RULES = Path(__file__).parent / "rules"
OBJECT = RULES.parents[1] / "kubernetes" / "monitoring" / "prometheusrule.yaml"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and what occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _written(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _written)


def text() -> str:
    """The PrometheusRule with all groups."""
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "gradcam"},
        "spec": {"groups": groups},
    }
    dumped = yaml.dump(rule, Dumper=_Dumper, sort_keys=False, width=1000)
    return f"# Made of deploy/prometheus/rules by `make docs`.\n{dumped}"


if __name__ == "__main__":
    OBJECT.write_text(text())
