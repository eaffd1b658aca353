"""The threads that requests share, each in its turn: counted, not timed."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial
from time import monotonic

import numpy as np
import pytest

from gradcam_service.core.threads import SharedThreads
from gradcam_service.errors import DeadlineExceeded

FAR = 1e6 + monotonic()


async def held_up(threads: SharedThreads, go: threading.Event) -> asyncio.Task[bool]:
    """A piece that somebody else has begun, and that a thread works on until it may go."""
    begun = threading.Event()
    piece = asyncio.ensure_future(threads.run("somebody", FAR, lambda: begun.set() or go.wait(60)))
    while not begun.is_set():
        await asyncio.sleep(0)
    return piece


@pytest.mark.parametrize("count", [1, 2])
def test_twenty_small_requests_wait_for_a_piece_each_not_for_all_512_of_the_large_one_before_them(count):
    done: list[str] = []
    abreast = threading.Barrier(count)  # no thread is ahead of another by more than a piece, however they are scheduled

    def work(name: str) -> None:
        abreast.wait(60)
        done.append(name)

    async def all_of_it() -> None:
        threads, go = SharedThreads(count), threading.Event()
        first = [await held_up(threads, go) for _ in range(count)]
        large = [threads.run("large", FAR, lambda: work("large")) for _ in range(32 * 16)]
        small = [threads.run(i, FAR, lambda i=i: work(f"small {i}")) for i in range(20) for _ in ("decode", "draw")]
        asked = [asyncio.ensure_future(one) for one in (*large, *small)]
        await asyncio.sleep(0)  # all of them wait
        go.set()
        await asyncio.gather(*first, *asked)

    asyncio.run(all_of_it())
    assert len(done) == 512 + 40
    last = max(place for place, name in enumerate(done) if name != "large")
    before = done[: last + 1].count("large")
    assert before <= 2 + count  # one in each of their two rounds, and what another thread may be ahead


def test_what_nobody_waits_for_any_more_is_never_begun():
    done: list[int] = []

    async def all_of_it() -> None:
        threads, go = SharedThreads(1), threading.Event()
        first = await held_up(threads, go)
        pieces = [asyncio.ensure_future(threads.run("mine", FAR, lambda i=i: done.append(i))) for i in range(3)]
        await asyncio.sleep(0)
        pieces[1].cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, pieces[0], pieces[2])
        assert pieces[1].cancelled()

    asyncio.run(all_of_it())
    assert done == [0, 2]


def test_what_nobody_waits_for_any_more_holds_no_picture_while_every_thread_is_busy():
    async def all_of_it() -> None:
        threads, go = SharedThreads(1), threading.Event()
        first = await held_up(threads, go)
        pictures = [np.zeros(1000) for _ in range(4)]
        left, kept = [weakref.ref(picture) for picture in pictures[:3]], weakref.ref(pictures[3])
        deadlines = [FAR, FAR, monotonic() + 0.01, FAR]
        owners = ["mine", "another's", "mine", "mine"]
        asked = [
            asyncio.ensure_future(threads.run(owner, deadline, partial(picture.sum)))
            for owner, deadline, picture in zip(owners, deadlines, pictures, strict=True)
        ]
        del pictures
        await asyncio.sleep(0)  # all of them wait
        for leaving in asked[:2]:
            leaving.cancel()
        late = await asyncio.gather(*asked[:3], return_exceptions=True)
        assert [type(error) for error in late] == [asyncio.CancelledError, asyncio.CancelledError, DeadlineExceeded]
        last = asked.pop()
        del asked, leaving, late
        await asyncio.sleep(0)  # the loop lets go of what it has just awaited
        gc.collect()
        assert all(picture() is None for picture in left)
        assert kept() is not None
        assert not first.done()
        go.set()
        assert await last == 0

    asyncio.run(all_of_it())


def test_the_deadline_is_told_while_every_thread_is_busy_with_something_else():
    done: list[int] = []

    async def all_of_it() -> None:
        threads, go = SharedThreads(1), threading.Event()
        first = await held_up(threads, go)
        with pytest.raises(DeadlineExceeded):
            await threads.run("mine", monotonic() + 0.01, lambda: done.append(1))
        assert not first.done()
        go.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await threads.run("mine", monotonic() - 1, lambda: done.append(2))
        assert await threads.run("mine", FAR, lambda: 3) == 3  # the thread is free again

    asyncio.run(all_of_it())
    assert done == []


def test_what_a_piece_raises_is_raised_to_who_asked_for_it():
    async def all_of_it() -> None:
        threads = SharedThreads(1)
        with pytest.raises(ZeroDivisionError):
            await threads.run("mine", FAR, lambda: 1 // 0)
        assert await threads.run("mine", FAR, lambda: 3) == 3

    asyncio.run(all_of_it())
