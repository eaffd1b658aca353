"""A real browser, and what a page does in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from live import PATIENCE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
"""The shell, where it is installed: it has no window, whose own pages take longer than those that are tested."""
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--in-process-gpu", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-default-apps", "--no-first-run", "--disable-dev-shm-usage"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that runs while the block does."""
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield started
        finally:
            started.close()


class Visit:
    """A page, and what it did: addresses it asked for, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def strangers(self, origin: str) -> list[str]:
        """Addresses of other origins."""
        host = urlsplit(origin).netloc
        own = ("data", "blob")  # made by the page itself
        return [url for url in self.requests if urlsplit(url).scheme not in own and urlsplit(url).netloc != host]
