"""Errors that a call may raise besides a fault of its own arguments.

ClientError
├── NoAnswer         nobody answered: not reached, or hung up; an OSError too
│   └── TimedOut         within the time that the call had; a TimeoutError too
└── Problem          the service's answer: status, code, detail, request_id
    ├── Refused          4xx: the request is at fault, and would be refused again
    └── Unavailable      429, 5xx: the service is at fault, or busy; later it may work
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

_SHOWN = 200
"""Characters that are shown of what is no problem document, as a proxy's page."""


class ClientError(Exception):
    """Base of all of them."""


class NoAnswer(ClientError, ConnectionError):
    """There is no answer: the service wasn't reached, or hung up."""


class TimedOut(NoAnswer, TimeoutError):
    """There is no answer within the time that the call had, all its tries together."""


class Problem(ClientError):
    """The service's answer that it can't do what was asked, or not for one of several images.

    Attributes:
        status: of HTTP.
        code: stable, for programs; docs/errors.md has all of them. ``http`` where somebody else answered than a gradcam
            service, as a proxy does.
        detail: a sentence that says what would work.
        request_id: what the service's log has the request under.
        retry_after: seconds after which it may be sent again, where the service said so.
    """

    def __init__(
        self, status: int, code: str, detail: str, request_id: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(status, code, detail, request_id, retry_after)  # all, so that it can be pickled
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        named = f"{self.code}, request {self.request_id}" if self.request_id else self.code
        return f"{self.detail} ({named})"


class Refused(Problem):
    """The request is at fault: sent again as it is, it would be refused again."""


class Unavailable(Problem):
    """The service is at fault, or has too much to do: the same request may work later."""


class ProblemBody(msgspec.Struct):
    """Problem document (RFC 9457), as far as it is read."""

    status: int
    code: str
    detail: str
    request_id: str


_decode = msgspec.json.Decoder(ProblemBody).decode


def problem(body: ProblemBody, retry_after: float | None = None) -> Problem:
    """The exception that a problem document is."""
    busy = body.status == HTTPStatus.TOO_MANY_REQUESTS or body.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = Unavailable if busy else Refused
    return kind(body.status, body.code, body.detail, body.request_id, retry_after)


def problem_of(status: int, headers: Mapping[str, str], content: bytes) -> Problem:
    """The exception that a response is, whoever wrote it."""
    try:
        body = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = " ".join(content.decode(errors="replace").split())[:_SHOWN]
        body = ProblemBody(status, "http", f"status {status}: {said}", headers.get("x-request-id", ""))
    return problem(body, _retry_after(headers.get("retry-after")))


def _retry_after(value: str | None) -> float | None:
    """Seconds, of either form that the header has (RFC 9110, 10.2.3); None of neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    now = datetime.now(UTC)
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
