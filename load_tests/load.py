"""Starts the service and puts it under load: ``python load_tests/load.py [options of locust]``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from live import running

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def locust(url: str, *options: str) -> list[str]:
    """The command that puts a service under load without a page to watch it."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--only-summary"]
    return [*command, "--host", url, *options]


if __name__ == "__main__":
    with running(default_model="imagenet") as service:
        sys.exit(subprocess.run(locust(service.url, *sys.argv[1:])).returncode)
