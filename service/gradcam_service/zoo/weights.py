"""Writes what a training made of a network into its folder of models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save as serialised
from torch import nn


def save(network: nn.Module, directory: Path, **words: Sequence[str]) -> int:
    """Write weights, text files of one word a line, and the weights' digest into `model.yaml`.

    Args:
        network: its state becomes ``weights.safetensors``.
        directory: holds a `model.yaml` with a line ``sha256: …``.
        words: name of a text file without ``.txt`` → its lines, as ``labels``.

    Returns:
        The size of the weights in bytes.
    """
    weights = directory / "weights.safetensors"
    weights.write_bytes(serialised({name: value.contiguous() for name, value in network.state_dict().items()}))
    for name, lines in words.items():
        (directory / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    spec = directory / "model.yaml"
    text = re.sub(r"^sha256: .*$", f"sha256: {digest}", spec.read_text(encoding="utf-8"), flags=re.MULTILINE)
    spec.write_text(text, encoding="utf-8")
    return weights.stat().st_size
