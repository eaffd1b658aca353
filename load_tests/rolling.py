"""Replaces two replicas behind HAProxy under load: ``python load_tests/rolling.py [options of locust]``.

As a Deployment does with ``maxSurge: 1, maxUnavailable: 0``: a new replica is started, and when the load balancer has
found it ready an old one is stopped. The exit code is locust's, for which no request may fail.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from live import free_port, running_eagerly
from load import locust

BEFORE = 20
"""How many requests there are, at least, before the first replacement begins: the load is on."""
REQUESTS = 200
"""How many there are, at least, from the beginning of a replacement to the next."""
NOTICE = 4.0
"""Seconds; longer than HAProxy takes to notice: two checks, a second apart."""


@contextmanager
def balanced(slots: list[int]) -> Iterator[str]:
    """HAProxy before what listens on three ports; gives its address."""
    port = free_port()
    environment = {"PORT": str(port)} | {f"SLOT{i}": str(slot) for i, slot in enumerate(slots)}
    path = os.environ["PATH"] + ":/usr/sbin"
    process = subprocess.Popen(
        ["haproxy", "-db", "-q", "-f", Path(__file__).with_name("haproxy.cfg")], env={"PATH": path} | environment
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def statistics(url: str) -> dict[str, dict[str, str]]:
    """What HAProxy says of its replicas, each by its name, and of all together as BACKEND."""
    try:
        with urllib.request.urlopen(f"{url}/haproxy;csv") as response:
            rows = csv.DictReader(response.read().decode().splitlines())
            return {row["svname"]: row for row in rows if row["# pxname"] == "replicas"}
    except OSError:  # it is being started
        return {}


def ready(url: str) -> int:
    """How many replicas HAProxy sends requests to."""
    return sum(row["status"].startswith("UP") for name, row in statistics(url).items() if name != "BACKEND")


def requests(url: str) -> int:
    """How many requests it has sent to them so far."""
    return int(statistics(url)["BACKEND"]["stot"])


def wait(done: Callable[[], bool], what: str) -> None:
    """Until it is done; after two minutes, give up."""
    deadline = time.monotonic() + 120
    while not done():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within two minutes")
        time.sleep(0.2)


def main(options: list[str], serve: Callable[..., AbstractContextManager[object]] = running_eagerly) -> int:
    """Replace both, and return the exit code; `serve` runs a replica with some settings."""
    slots = [free_port() for _ in range(3)]
    with balanced(slots) as url, ExitStack() as all_replicas:
        replicas: list[ExitStack] = []

        def start(slot: int) -> None:
            replica = all_replicas.enter_context(ExitStack())
            replica.enter_context(serve(port=slots[slot], notice_seconds=NOTICE))
            replicas.append(replica)

        # a shell lets what it starts in the background ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        start(0)
        start(1)
        wait(lambda: ready(url) == 2, "two replicas are ready")
        thresholds = ["--max-failures", "0", "--max-p95", "30000", "--min-load", "50", "--max-growth", "100"]
        load = subprocess.Popen(locust(url, "--run-time", "1h", *thresholds, *options))
        wait(lambda: requests(url) >= BEFORE, "the load has begun")
        before = requests(url)
        for slot, count in ((2, REQUESTS), (0, 2 * REQUESTS)):
            start(slot)
            wait(lambda: ready(url) == 3, "a third replica is ready")
            print(f"slot {slot} is ready; the oldest replica is stopped", flush=True)
            replicas.pop(0).close()
            wait(lambda: ready(url) == 2, "the oldest replica is gone")
            wait(lambda count=count: requests(url) - before >= count, f"{count} requests are made")  # type: ignore[misc]
        print(f"{requests(url) - before} requests since the first replacement began", flush=True)
        load.send_signal(signal.SIGINT)  # which has it sum up
        return load.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
