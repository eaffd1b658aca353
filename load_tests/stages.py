"""Where the time of an explanation goes, asked for one by one on one connection, as the service itself tells of each.

    PYTHONPATH=tests python load_tests/stages.py resnet50     # of torchvision, or an embedded model

What is around the forward pass is each request's own, so that a machine on which passes take now longer, now shorter
says the same. With other work on it the least of each stage says what that costs, and the median how long it waits.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from urllib.parse import urlsplit

from subject import MODEL, photograph, runtime_of, settled

from gradcam_service.registry.repository import EMBEDDED
from live import Service, running

WARM, COUNT = 50, 500


def measured(service: Service, model: str, count: int) -> dict[str, list[float]]:
    """Milliseconds of each stage of so many requests; `around` is all but the forward pass, `client` the way there."""
    stages: dict[str, list[float]] = defaultdict(list)
    connection, picture = HTTPConnection(urlsplit(service.url).netloc), photograph()
    for _ in range(count):
        start = perf_counter()
        connection.request("POST", f"/explain?model={model}", picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        answer.read()
        took = 1e3 * (perf_counter() - start)
        told = re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])
        own = {stage: float(milliseconds) for stage, milliseconds in told}
        total = own.pop("total")
        own |= {"others in the API process": total - sum(own.values()), "client": took - total}
        for stage, milliseconds in (own | {"around": took - own["forward"], "all": took}).items():
            stages[stage].append(milliseconds)
    connection.close()
    return stages


def main(model: str) -> None:
    """Print a row for each stage."""
    with TemporaryDirectory() as folder:
        if not (EMBEDDED / model).exists():
            version = Path(folder, model, "1")
            version.mkdir(parents=True)
            (version / "model.yaml").write_text(MODEL.format(model))
        with running(model_repository=folder, default_model=model, api_processes=1) as service:
            settled(service, model)
            measured(service, model, WARM)
            stages = measured(service, model, COUNT)
            print(f"{model} on {runtime_of(service, model)}, {COUNT} explanations")
            print("\n| stage, ms | median | least |\n|---|--:|--:|")
            for stage, each in stages.items():
                print(f"| {stage} | {median(each):.2f} | {min(each):.2f} |")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["resnet50"]))
