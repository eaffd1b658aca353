"""Jobs that wait for the device, and which of them go together."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from gradcam_service.registry.served import ServedModel
from gradcam_service.worker.messages import Inputs, Job


@dataclass(frozen=True)
class Waiting:
    """A job in the queue.

    Attributes:
        caller: identity of the API process that sent it.
        inputs: by name.
        model: what will answer it, whatever takes that model's place meanwhile.
    """

    caller: bytes
    job: Job
    inputs: Inputs
    model: ServedModel


class JobQueue:
    """First in, first out, except that jobs for the same model ride along with the first one.

    A job that is to be alone neither rides along nor takes others along. There is no timer: a batch is what arrived
    while the device was busy.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[bytes, int], Waiting] = OrderedDict()
        self._parts: deque[list[tuple[bytes, int]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, waiting: Waiting) -> None:
        """Append a job."""
        self._waiting[waiting.caller, waiting.job.id] = waiting

    def put_back(self, batch: list[Waiting], size: int) -> None:
        """Have a batch that failed taken again, before all else, in parts of that size."""
        for start in reversed(range(0, len(batch), size)):
            part = batch[start : start + size]
            self._parts.appendleft([(waiting.caller, waiting.job.id) for waiting in part])
            for waiting in part:
                self.put(waiting)

    def cancel(self, caller: bytes, job_id: int) -> None:
        """Forget a job, if it still waits."""
        self._waiting.pop((caller, job_id), None)

    def forget(self, caller: bytes) -> None:
        """Forget all jobs of an API process that is gone."""
        for place in [place for place in self._waiting if place[0] == caller]:
            del self._waiting[place]

    def take(self) -> list[Waiting]:
        """Remove and return the job that waited longest and those that ride along, as many as the model's batch.

        Or the next part of a batch that has been put back.
        """
        while self._parts:
            part = [self._waiting.pop(place) for place in self._parts.popleft() if place in self._waiting]
            if part:
                return part
        first = next(iter(self._waiting.values()), None)
        if first is None:
            return []
        model = first.model
        fitting = [w for w in self._waiting.values() if w.model is model and not w.job.alone]
        batch = [first] if first.job.alone else fitting[: model.card.batch]
        for waiting in batch:
            self.cancel(waiting.caller, waiting.job.id)
        return batch

    def drop_expired(self, now: float) -> list[Waiting]:
        """Remove and return the jobs whose deadline is past; they never run."""
        expired = [waiting for waiting in self._waiting.values() if waiting.job.deadline <= now]
        for waiting in expired:
            self.cancel(waiting.caller, waiting.job.id)
        return expired
