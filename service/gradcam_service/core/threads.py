"""Threads that many requests share, each in its turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from gradcam_service.errors import DeadlineExceeded

Outcome = TypeVar("Outcome")

_Pieces: TypeAlias = OrderedDict[asyncio.Future[Any], Callable[[], Any]]
"""Work that hasn't begun, in order, by what it is to become."""


class SharedThreads:
    """Threads for what would hold up the event loop. Owners that have work waiting get one for a piece of it in turn.

    So a request of hundreds of pieces keeps one that comes after it waiting for a piece, not for all of them. What
    nobody waits for any more is dropped with all that it holds; what has begun is finished, as a thread can't be
    stopped.

    Args:
        threads: how many pieces may be worked on at a time.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shared")
        self._idle = threads
        self._waiting: OrderedDict[object, _Pieces] = OrderedDict()

    async def run(self, owner: object, deadline: float, work: Callable[[], Outcome]) -> Outcome:
        """Have a piece of an owner's work done in a thread.

        Args:
            owner: whose turn it takes; hashable.
            deadline: `time.monotonic` seconds.
            work: the piece.

        Raises:
            DeadlineExceeded: it was not done by the deadline; also where no thread had become free for it.
        """
        if deadline <= monotonic():
            raise _too_late()
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, OrderedDict())[outcome] = work
        self._begin_what_fits()
        try:
            async with asyncio.timeout(deadline - monotonic()):
                return await outcome
        except TimeoutError:
            raise _too_late() from None
        finally:
            self._forget(owner, outcome)

    def _forget(self, owner: object, outcome: asyncio.Future[Any]) -> None:
        """Drop a piece where it still waits: what it holds may be counted as given back at once."""
        if pieces := self._waiting.get(owner):
            pieces.pop(outcome, None)
            if not pieces:
                del self._waiting[owner]

    def _begin_what_fits(self) -> None:
        while self._idle and self._waiting:
            owner, pieces = self._waiting.popitem(last=False)
            outcome, work = pieces.popitem(last=False)
            if pieces:
                self._waiting[owner] = pieces  # behind everybody else who waits
            if not outcome.done():
                self._idle -= 1
                running = asyncio.get_running_loop().run_in_executor(self._pool, work)
                running.add_done_callback(partial(self._finished, outcome))

    def _finished(self, outcome: asyncio.Future[Any], running: asyncio.Future[Any]) -> None:
        self._idle += 1
        self._begin_what_fits()
        error = running.exception()
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(running.result())


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("not read, decoded and drawn before the deadline; a longer timeout would help")
