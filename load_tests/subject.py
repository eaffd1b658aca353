"""Subject of the measurements: a running service, what it is asked, and when it is ready to be measured."""

from __future__ import annotations

import io
import json
from pathlib import Path

import psutil
from drive import Request, one_by_one
from PIL import Image

from live import Service, until

PICTURES = Path(__file__).parent.parent / "service" / "gradcam_service" / "pictures"
PHOTO = PICTURES / "coffee.jpg"
DRAWN = PICTURES / "cross-star.jpg"
"""A picture of what `scenes` knows."""
MODEL = "source: torchvision\narchitecture: {}\nweights: random:0\n"
"""``model.yaml`` of an architecture. Random weights take as long as any."""
FOUND = ("model is faster now", "model stays on")
"""What the log says of a model once it is known what computes it fastest; of one that is yet to, "model ready"."""


def photograph() -> bytes:
    """A JPEG file of 500×375 pixels."""
    file = io.BytesIO()
    Image.open(PHOTO).resize((500, 375)).save(file, "JPEG", quality=90)
    return file.getvalue()


def settled(service: Service, model: str) -> None:
    """Have a model loaded, and wait until the fastest runtime computes it, and every other that is loaded.

    The race that finds it takes processors from what is measured, and whoever wins it changes what that is. The log
    alone tells when it has ended, at the level ``info``: whatever computes a model at first may be the fastest.
    """
    one_by_one(Request(f"{service.url}/predict?model={model}", photograph()), 1, 1)

    def is_found() -> bool:
        lines = [
            line for line in service.output if '"message": "model ' in line
        ]  # few of them, which are worth parsing
        records = [json.loads(line) for line in lines]
        latest = {record.get("model", "").partition("@")[0]: record["message"] for record in records}
        return latest.get(model, "").startswith(FOUND) and "model ready" not in latest.values()

    until(is_found)


def runtime_of(service: Service, model: str) -> str:
    """What computes its feature maps now."""
    runtime: str = service.client.get(f"/models/{model}").json()["runtime"]
    return runtime


def resident(process: psutil.Process) -> float:
    """Resident memory, MB."""
    size: int = process.memory_info().rss
    return size / 1e6
