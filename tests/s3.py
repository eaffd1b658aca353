"""A real S3 server on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import httpx
import pytest

from live import free_port, until

MOTO = Path(sys.executable).with_name("moto_server")


@dataclass
class Store:
    """A server of S3, of its token service and of IAM, that can go away and come back empty.

    Attributes:
        log: of its requests, a line each.
        port: where it listens when it is up.
    """

    log: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("a") as output:
            command = [MOTO, "-H", "127.0.0.1", "-p", str(self.port)]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        until(self._answers)

    def stop(self) -> None:
        """Refuse connections from here on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stall(self) -> None:
        """Take connections and never answer, as where the network drops what is sent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def clear(self) -> None:
        """Be as when it was started: up, empty, and asking nobody for permission."""
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()
        assert httpx.post(f"{self.url}/moto-api/reset").status_code == 200
        self.enforce(after="inf")
        forget()

    def enforce(self, after: str = "0") -> None:
        """Heed policies from here on, or after so many requests."""
        assert httpx.post(f"{self.url}/moto-api/reset-auth", content=after).status_code == 200

    def requests(self) -> list[str]:
        """What it has been asked so far: ``GET /bucket/key?query``."""
        lines = [line.split('"')[1] for line in self.log.read_text().splitlines() if line.count('"') == 2]
        return [line.rpartition(" HTTP/")[0] for line in lines]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/moto-api/").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """A running server, and in the environment its address and credentials for it."""
    found = Store(folder / "s3.log")
    found.start()
    try:
        with pointed_at(found.url):
            yield found
    finally:
        found.stop()


@contextmanager
def pointed_at(url: str) -> Iterator[None]:
    """In the environment the address of a server, and credentials for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", url)
        forget()
        try:
            yield
        finally:
            forget()


def forget() -> None:
    """Have fsspec read the environment again, of which it keeps what a file system began with."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
