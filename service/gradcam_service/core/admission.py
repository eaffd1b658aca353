"""Admission of requests: the images, bytes and turns of threads that they may hold of a process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self, TypeVar

from gradcam_service import metrics
from gradcam_service.core.threads import SharedThreads
from gradcam_service.errors import Overloaded, TooManyBytes
from gradcam_service.settings import Settings

Outcome = TypeVar("Outcome")


class Capacity:
    """A process's bounds, and what is left of them.

    Args:
        settings: say how much all API processes may hold together, of which this one has its share.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.images = settings.share(settings.queue_size)
        self.bytes = self.all_bytes = settings.share(settings.max_bytes_in_flight)
        self.threads = SharedThreads(settings.threads)
        metrics.QUEUE_SIZE.set(self.images)

    def admit(self, images: int = 1, size: int = 0) -> Admission:
        """Let a request in, before its body is read, so that refusals are cheap.

        Args:
            images: how many it has, as far as is known.
            size: bytes that it says it has.

        Raises:
            Overloaded: there is no room for it now.
        """
        admission = Admission(self)
        with ExitStack() as unless_both_fit:
            unless_both_fit.enter_context(admission)
            admission.take_images(images)
            admission.take_bytes(size)
            unless_both_fit.pop_all()
        return admission


class Admission:
    """One request's share of the capacity, held from before its body is read until the end of this context manager."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._images = 0
        self._bytes = 0

    def take_images(self, count: int) -> None:
        """Hold places in the queue for ``count`` images in all.

        Raises:
            Overloaded: there aren't enough.
        """
        more = max(0, count - self._images)
        if more > self._capacity.images:
            queue_size = self._capacity.settings.queue_size
            raise Overloaded(f"the queue of {queue_size} images is full; try again in a second")
        self._capacity.images -= more
        self._images += more
        metrics.IN_FLIGHT.inc(more)

    def return_images(self) -> None:
        """They are computed: others may take their places, while the answer is still being written."""
        self._capacity.images += self._images
        metrics.IN_FLIGHT.dec(self._images)
        self._images = 0

    def take_bytes(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            TooManyBytes: others hold so many that these would be too many.
        """
        capacity = self._capacity
        alone = capacity.bytes + self._bytes == capacity.all_bytes
        if count > capacity.bytes and not alone:  # alone, it gets what it needs, however little it may be in all
            most = capacity.settings.max_bytes_in_flight
            raise TooManyBytes(f"requests hold {most} bytes, the most that are accepted; try again in a second")
        self._capacity.bytes -= count
        self._bytes += count

    async def run(self, deadline: float, work: Callable[[], Outcome]) -> Outcome:
        """Have a piece of the request's work on pixels done in its turn; see `SharedThreads.run`."""
        return await self._capacity.threads.run(self, deadline, work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.return_images()
        self._capacity.bytes += self._bytes
        self._bytes = 0
