"""The real service, with real processes and sockets."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from gradcam_service.registry.repository import EMBEDDED
from traces import keep_traces

GRADCAM = Path(sys.executable).with_name("gradcam")
ADMIN_TOKEN = "of-the-operator-alone"
PATIENCE = 180.0
"""Seconds after which what takes a few is given up, on a machine that is slow or has much else to do."""


@dataclass
class Service:
    """A running service.

    Attributes:
        client: speaks to it.
        process: the supervisor.
        output: what it has printed so far, line by line.
    """

    client: httpx.Client
    process: subprocess.Popen[str]
    output: list[str]

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def get(self, path: str) -> httpx.Response:
        """Ask on a connection of its own, which any of the API processes may accept."""
        with fresh(self.url) as client:
            return client.get(path)

    def post(self, path: str, **given: Any) -> httpx.Response:
        """Ask on a connection of its own, which any of the API processes may accept."""
        with fresh(self.url) as client:
            return client.post(path, **given)

    def records(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return [json.loads(line) for line in self.output if line.startswith("{")]

    def pids(self, process: str) -> list[int]:
        """Process ids of all children ever whose names begin like this, such as "worker" or "api 0", oldest first."""
        records = [record for record in self.records() if record["message"] == "process started"]
        return [record["pid"] for record in records if record["process"].startswith(process)]

    def children(self) -> list[psutil.Process]:
        """Its processes but the supervisor."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def lasting(self) -> set[psutil.Process]:
        """Those that the supervisor started: workers and API processes, but not what a worker traces a model with."""
        return set(psutil.Process(self.process.pid).children())


def fresh(url: str) -> httpx.Client:
    """Speaks to a service on connections of its own; no certificates are read for it, which would take 50 ms.

    None that is idle is closed for being one too many, which httpcore does to one that another thread has just taken.
    """
    return httpx.Client(base_url=url, timeout=PATIENCE, verify=False, limits=httpx.Limits())


def free_port() -> int:
    """A port of loopback that nobody listens on, and that no system gives away by itself."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def closed_port() -> Iterator[socket.socket]:
    """A port of loopback that refuses connections while the block runs, or until its socket is told to listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken


def until(look: Callable[[], object], wanted: object = True, seconds: float = PATIENCE) -> None:
    """Look again and again until what is seen is what is wanted."""
    end = time.monotonic() + seconds
    while (seen := look()) != wanted:
        assert time.monotonic() < end, f"saw {seen!r} to the end, not {wanted!r}"
        time.sleep(0.05)


@contextmanager
def repeated(ask: Callable[[int], object], threads: int, pause: float = 0.0) -> Iterator[None]:
    """While the block runs, threads call `ask` again and again, each time with the next number.

    What one of them raises is raised at the end. With a pause of some seconds between its calls, a thread leaves the
    processors to what else has to happen.
    """
    numbers, done = itertools.count(), threading.Event()

    def keep_asking() -> None:
        while not done.wait(pause):
            ask(next(numbers))

    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(keep_asking) for _ in range(threads)]
        try:
            yield
        finally:
            done.set()
            for one in asking:
                one.result()


@contextmanager
def running(*command: str, **settings: object) -> Iterator[Service]:
    """Start `gradcam serve`, or another command that does, on a free port; stop it by SIGTERM.

    Settings go by their lower-case names. The default model is `scenes`, which has ground truth, unless a test says
    otherwise.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADCAM_")}
    environment |= {
        f"GRADCAM_{name.upper()}": str(value)
        for name, value in ({"port": 0, "default_model": "scenes"} | settings).items()
    }
    process = subprocess.Popen(
        command or [GRADCAM, "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(process, output, ready), daemon=True)
    reader.start()
    try:
        assert ready.wait(PATIENCE), "".join(output)
        found = re.search(r"ready at (http\S+)", "".join(output))
        assert found, "".join(output)
        with fresh(found[1]) as client:
            yield Service(client, process, output)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()


@contextmanager
def running_eagerly(*command: str, **settings: object) -> Iterator[Service]:
    """The same with the embedded model on eager PyTorch and the CPU, for tests to which runtimes are all alike.

    Nothing is raced, what can be traced beforehand is, and where another model is the default this one waits to be
    asked for, so that a start takes half of the processors' time, and answers are the same to the last digit from the
    first on. Requests have two minutes: the machine may be slow.
    """
    settings = {"device": "cpu", "timeout_ms": 120_000} | settings
    with TemporaryDirectory(prefix="gradcam-eager-") as folder:
        version = Path(shutil.copytree(EMBEDDED / "scenes" / "1", Path(folder) / "scenes" / "1"))
        load = "start" if settings.get("default_model", "scenes") == "scenes" else "demand"
        text = (version / "model.yaml").read_text() + f"runtime: eager\nload: {load}\n"
        (version / "model.yaml").write_text(text)
        given = settings.pop("model_repository", None)
        keep_traces(filter(Path.is_dir, (Path(folder), Path(str(given)))), settings.get("plugins"))
        with running(*command, model_repository=f"{given},{folder}" if given else folder, **settings) as service:
            yield service


def running_lightly(*command: str, **settings: object) -> AbstractContextManager[Service]:
    """The same where the embedded models' compiled forms answer, and no worker imports torch for them.

    A start takes half of the processors' time of an eager one: for tests to which it is all alike who computes.
    """
    return running(*command, **{"device": "cpu", "timeout_ms": 120_000} | settings)


def _read(process: subprocess.Popen[str], output: list[str], ready: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if "ready at" in line:
            ready.set()
    ready.set()  # it ended: what it printed says why
