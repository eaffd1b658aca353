"""How long small requests wait beside a large one: ``python load_tests/fairness.py [--rounds N]``.

Twenty requests of one picture and one target, asked at the same time, alone and then after one of 32 pictures and 16
targets each, in turns. The p99 of the small ones beside the large one is to be at most three times what it is alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from bench import PHOTO

from live import Service, running

SMALL, IMAGES, TARGETS = 20, 32, 12
"""`scenes`, the model that is asked, has twelve classes, of which four are explained twice."""


def main() -> None:
    """Measure, and print both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    photo = PHOTO.read_bytes()
    targets = [i % TARGETS for i in range(16)]
    large = {"images": [base64.b64encode(photo).decode()] * IMAGES, "target": targets, "output": "overlay"}
    body = json.dumps({**large, "max_side": 256}).encode()
    with running(api_processes=1) as service, ThreadPoolExecutor(SMALL + 1) as threads:
        alone: list[float] = []
        beside: list[float] = []
        ask(service, photo, "image/jpeg")
        for _ in range(rounds):
            alone += together(service, photo, threads)
            accepted = threads.submit(ask, service, body, "application/json")
            time.sleep(0.2)  # until it has been read
            beside += together(service, photo, threads)
            overtaken = "after" if not accepted.done() else "before"
            print(
                f"the large one took {accepted.result():.1f} s, and was answered {overtaken} the small ones", flush=True
            )
    without, with_it = (p99(seconds) for seconds in (alone, beside))
    print(f"p99 alone {1e3 * without:.0f} ms, beside the large one {1e3 * with_it:.0f} ms: {with_it / without:.2f}×")


def together(service: Service, photo: bytes, threads: ThreadPoolExecutor) -> list[float]:
    """Seconds that each of the small requests took, all sent at the same time."""
    start = threading.Barrier(SMALL)

    def one(_: int) -> float:
        start.wait()
        return ask(service, photo, "image/jpeg")

    return list(threads.map(one, range(SMALL)))


def ask(service: Service, body: bytes, kind: str) -> float:
    """Seconds until a request to ``/explain`` has been answered."""
    begun = time.perf_counter()
    connection = HTTPConnection(service.client.base_url.netloc.decode(), timeout=120)
    connection.request("POST", "/explain", body, {"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    connection.close()
    return time.perf_counter() - begun


def p99(seconds: list[float]) -> float:
    """What 99 of 100 took at most."""
    return sorted(seconds)[int(0.99 * len(seconds))]


if __name__ == "__main__":
    main()
