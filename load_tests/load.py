"""Puts a service under load: ``python load_tests/load.py [--host URL] [options of locust]``.

Without a host, one of this machine is started for it. The report is build/load.html, unless ``--html`` says otherwise.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def locust(url: str, *options: str) -> list[str]:
    """The command that puts a service under load without a page to watch it."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--only-summary"]
    return [*command, "--host", url, *options]


def main(arguments: list[str]) -> int:
    """Put the load on, and return the exit code."""
    parser = argparse.ArgumentParser(
        usage='make load [HOST=URL] [KEY=…] [LOAD="options"], or load.py [options]',
        description="Put a service under load. The exit code is 1 if a threshold was not met.",
        epilog="All other options of locust are passed on to it; locust --help has them.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this, and exit")
    parser.add_argument("-H", "--host", metavar="URL", help="of a running service (default: one is started here)")
    parser.add_argument("--html", metavar="FILE", default="build/load.html", help="report (default: %(default)s)")
    asked, options = parser.parse_known_args(arguments)
    if asked.help:
        _help(parser)
        return 0
    options += ["--html", asked.html]
    if asked.host:
        url = asked.host if "://" in asked.host else f"http://{asked.host}"
        return _loaded(url, options)
    from live import running  # of the tests, which a machine that loads another doesn't need

    with running(default_model="imagenet") as service:
        return _loaded(service.url, options)


def _loaded(url: str, options: list[str]) -> int:
    process = subprocess.Popen(locust(url, *options))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for locust, which then sums up
    return process.wait()


def _help(parser: argparse.ArgumentParser) -> None:
    """Print every option of the load; locust's own help has none of those that a locustfile adds."""
    from locustfile import USERS, add_arguments

    add_arguments(parser)
    parser.add_argument("-u", "--users", metavar="N", help="how many at most (default: %(default)s)", default=USERS)
    parser.add_argument("-t", "--run-time", metavar="TIME", help="as 45s, 10m, 1h (default: as the shape has it)")
    parser.print_help()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
