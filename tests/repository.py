"""What the files of this repository say, for the tests that compare them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EMBEDDED_MODELS = ("easy-vqa", "imagenet", "policy", "scenes", "scenes-captions")
"""In the order in which they are listed, each in one version."""

EMBEDDED_KEYS = {f"{name}@1" for name in EMBEDDED_MODELS}

TOOLS = Path(sys.executable).parent


def instructions(name: str) -> list[str]:
    """Arguments of every such instruction in the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def image_environment() -> dict[str, str]:
    """What the last stage of the Dockerfile sets."""
    return dict(pair.split("=", 1) for pair in instructions("ENV")[-1].split())


def in_full(name: str, repository: Path) -> Path:
    """The folder of an embedded model's version, copied into a repository without its compiled form."""
    version = ROOT / "service" / "gradcam_service" / "zoo" / "models" / name / "1"
    return Path(shutil.copytree(version, repository / name / "1", ignore=shutil.ignore_patterns("compiled")))


def healthcheck() -> list[str]:
    command: list[str] = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    return command
