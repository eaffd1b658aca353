"""Tries of one call: what is worth another one, when, and until when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from time import monotonic

import httpx

from gradcam_service.client.errors import ClientError, NoAnswer, Problem, TimedOut

_LOST = (httpx.NetworkError, httpx.RemoteProtocolError)
"""Not reached, or hung up on. All that this client asks can be asked again: it changes nothing."""
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
"""Not 504 or a timeout: who took that long to no avail would do so once more."""
_FIRST = 0.25
"""Seconds before the second try where the service names none; twice as many before each next one."""


class Tries:
    """Tries of one call.

    Args:
        url: of the service.
        seconds: that all of them have together, the pauses between them included.
        retries: how many may follow the first.

    Attributes:
        pause: seconds to wait before the next, after one that failed.
    """

    def __init__(self, url: httpx.URL, seconds: float, retries: int) -> None:
        self.pause = 0.0
        self._url = url
        self._seconds = seconds
        self._end = monotonic() + seconds
        self._retries = retries
        self._failed = 0

    def left(self) -> float:
        """Seconds that are left.

        Raises:
            TimedOut: none are.
        """
        seconds = self._end - monotonic()
        if seconds <= 0:
            raise self._timed_out()
        return seconds

    @contextmanager
    def another(self) -> Iterator[None]:
        """Around one try: ends quietly where it failed and another is due after `pause`.

        Raises:
            ClientError: it failed, and no other is due.
        """
        try:
            yield
        except TimedOut:
            raise
        except (httpx.TimeoutException, TimeoutError) as error:
            raise self._timed_out() from error
        except _LOST as error:
            self._failed_by(self._no_answer("the connection failed", error), None)
        except httpx.RequestError as error:
            raise self._no_answer("no request can be made", error) from error
        except Problem as problem:
            if problem.status not in _BUSY:
                raise
            self._failed_by(problem, problem.retry_after)

    def _failed_by(self, error: ClientError, retry_after: float | None) -> None:
        """Set `pause`, or raise the error: as many have failed as may, or the time would be over after it."""
        backoff = _FIRST * 2**self._failed
        self._failed += 1
        # callers that were refused together shouldn't come back together
        self.pause = (retry_after or 0.0) + random.uniform(0.5, 1.0) * backoff
        if self._failed > self._retries or monotonic() + self.pause >= self._end:
            raise error

    def _timed_out(self) -> TimedOut:
        return TimedOut(f"{_address(self._url)}: no answer within {self._seconds:g} s")

    def _no_answer(self, what: str, error: httpx.RequestError) -> NoAnswer:
        return NoAnswer(f"{_address(self._url)}: {what}: {error}")


def _address(url: httpx.URL) -> str:
    """Where the service is, without the password that a URL may have."""
    return f"{url.scheme}://{url.netloc.decode()}"
