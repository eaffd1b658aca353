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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from live import free_port, running
from load import locust

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


def await_replicas(url: str, count: int) -> None:
    """Wait until HAProxy sends requests to so many replicas."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/haproxy;csv") as response:
                rows = list(csv.DictReader(response.read().decode().splitlines()))
        except OSError:  # it is being started
            rows = []
        if sum(row["svname"].startswith("slot") and row["status"].startswith("UP") for row in rows) == count:
            return
        if time.monotonic() > deadline:
            sys.exit(f"HAProxy does not find {count} replicas ready: {rows}")
        time.sleep(0.2)


def main(options: list[str]) -> int:
    """Replace both, and return the exit code."""
    slots = [free_port() for _ in range(3)]
    with balanced(slots) as url, ExitStack() as all_replicas:
        replicas: list[ExitStack] = []

        def start(slot: int) -> None:
            replica = all_replicas.enter_context(ExitStack())
            replica.enter_context(running(port=slots[slot], notice_seconds=NOTICE))
            replicas.append(replica)

        # a shell lets what it starts in the background ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
        start(0)
        start(1)
        await_replicas(url, 2)
        load = subprocess.Popen(locust(url, "--run-time", "10m", "--max-failures", "0", "--max-p95", "30000", *options))
        time.sleep(3)
        for slot in (2, 0):
            start(slot)
            await_replicas(url, 3)
            print(f"slot {slot} is ready; the oldest replica is stopped", flush=True)
            replicas.pop(0).close()
            await_replicas(url, 2)
        time.sleep(2)
        load.send_signal(signal.SIGINT)  # which has it sum up
        return load.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
