"""Reception of every call before it is answered: its key, its turn, and its message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial
from typing import TypeVar

from starlette.requests import HTTPConnection

from gradcam_service.api.bodies import in_turn
from gradcam_service.api.grpc.metadata import Context, headers_of
from gradcam_service.api.keys import AdminToken, Bearer, Keys
from gradcam_service.api.observe import Observation
from gradcam_service.core.admission import Capacity
from gradcam_service.errors import Overloaded, ServiceError, TooManyBytes, TooSlow

Outcome = TypeVar("Outcome")

_PROBES = 8
"""Messages of calls that are open to all that are awaited at a time."""


class Access(Enum):
    """Who may call: all, who has an API key, or who has the admin token."""

    OPEN = auto()
    KEYED = auto()
    MANAGING = auto()


class Reception:
    """Receives the calls of one API process.

    A stranger's call costs next to nothing: a key is looked at before the message is read. Calls that are open to all
    are answered however many others there are, as `/livez` is over HTTP, and don't wait for them. The messages of
    others, whose size isn't known before, are read for as many calls at a time as fit into the bytes that may be in
    flight if each is as large as one may be.

    Args:
        capacity: what the process may hold; its settings have the limits and the keys.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity, settings = capacity, capacity.settings
        keys = Bearer(Keys(settings.api_keys)) if settings.api_keys is not None else None
        token = Bearer(AdminToken(settings.admin_token)) if settings.admin_token is not None else keys
        self._guards = {Access.OPEN: None, Access.KEYED: keys, Access.MANAGING: token}
        self._read_seconds = settings.read_seconds
        self._most_calls, self._calls = settings.share(settings.max_connections), 0
        self._slots = max(1, settings.share(settings.max_bytes_in_flight) // settings.max_body_bytes)
        self._reading, self._streams = asyncio.Semaphore(self._slots), 0
        self._probes = deque[asyncio.Timeout](maxlen=_PROBES)

    @asynccontextmanager
    async def admitted(self, access: Access, context: Context, streaming: bool = False) -> AsyncIterator[None]:
        """Let a call in until the end of the block, before anything of it is read.

        Raises:
            Unauthorized: it has not the key that it needs.
            Overloaded: there are as many calls, or streams, as are accepted.
        """
        if access is Access.OPEN:
            yield
            return
        if guard := self._guards[access]:
            asked = [(name.encode(), value.encode("latin-1")) for name, value in headers_of(context).items()]
            await guard(HTTPConnection({"type": "http", "headers": asked, "observation": Observation("")}))
        if self._calls >= self._most_calls:
            raise Overloaded(f"{self._most_calls} calls are open, the most that are accepted in one process")
        if streaming and self._streams >= self._slots:
            raise Overloaded(f"{self._slots} streams are open, the most that are accepted in one process")
        self._calls, self._streams = self._calls + 1, self._streams + streaming
        try:
            yield
        finally:
            self._calls, self._streams = self._calls - 1, self._streams - streaming

    async def probe(self, context: Context) -> object:
        """The message of a call that is open to all; who waits longest gives way to who comes.

        Raises:
            TooSlow: it did not arrive in time.
        """
        async with self._in_time(TooSlow("the message did not arrive before those of later calls")) as clock:
            if len(self._probes) == _PROBES and not self._probes[0].expired():
                self._probes[0].reschedule(asyncio.get_running_loop().time())
            self._probes.append(clock)  # in place of the oldest
            try:
                return await context.read()
            finally:
                if clock in self._probes:
                    self._probes.remove(clock)

    async def message(self, context: Context, read: Callable[[object], Outcome]) -> Outcome:
        """What a call's message says, once it is this call's turn to be read.

        Raises:
            TooManyBytes: that did not come in time.
            TooSlow, ServiceError: see `next_of` and `read`.
        """
        async with self._in_time(TooManyBytes("other calls' messages hold as many bytes as are accepted")):
            await self._reading.acquire()
        try:
            return await self.read(await self.next_of(context), read)
        finally:
            self._reading.release()

    async def read(self, data: object, read: Callable[[object], Outcome]) -> Outcome:
        """What a message says, or `grpc.aio.EOF` instead; a long one in a thread, in its turn, as bodies of HTTP are.

        Raises:
            DeadlineExceeded: it was not read in the time that a request has.
            ServiceError: what `read` raises.
        """
        size = len(data) if isinstance(data, bytes) else 0
        with self._capacity.admit(images=0) as admission:
            return await in_turn(partial(read, data), size, self._capacity.settings, admission)

    async def next_of(self, context: Context) -> object:
        """The next message of a stream; `grpc.aio.EOF` where there is none.

        Raises:
            TooSlow: it did not arrive in time.
        """
        async with self._in_time(TooSlow(f"the message did not arrive within {self._read_seconds:g} s")):
            return await context.read()

    @asynccontextmanager
    async def _in_time(self, error: ServiceError) -> AsyncIterator[asyncio.Timeout]:
        try:
            async with asyncio.timeout(self._read_seconds) as clock:
                yield clock
        except TimeoutError:
            raise error from None
