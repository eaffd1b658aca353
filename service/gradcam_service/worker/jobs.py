"""The jobs of a worker: run in batches, expensive explanations a step at a time, each answered whatever happens."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import msgspec
import numpy as np
import zmq

from gradcam_service import metrics
from gradcam_service.errors import DeadlineExceeded, Internal, ModelLoading, OutOfMemory, PredictorFailed, ServiceError
from gradcam_service.worker import engine, memory
from gradcam_service.worker.callers import Callers
from gradcam_service.worker.in_flight_log import InFlightLog
from gradcam_service.worker.messages import Answer, Done, Job, Timings
from gradcam_service.worker.models import Models
from gradcam_service.worker.queue import JobQueue, Waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pending:
    """A job whose explanation is being worked out, the time it has taken so far, and its steps."""

    waiting: Waiting
    explanation: engine.Pending
    timings: Timings
    steps: int = 1


class Jobs:
    """Queues jobs, runs them on the device and answers them.

    Args:
        name: of the worker, for metrics.
        device: what they run on.
        models: what they are for.
        callers: who is answered.
        in_flight: where is written what is begun.
        max_forward_passes: what one explanation may cost.
    """

    def __init__(
        self,
        name: str,
        device: str,
        models: Models,
        callers: Callers,
        in_flight: InFlightLog,
        max_forward_passes: int,
    ) -> None:
        self._name = name
        self._device = str(device)
        self._models = models
        self._callers = callers
        self._in_flight = in_flight
        self._max_forward_passes = max_forward_passes
        self._queue = JobQueue()
        self._pending: OrderedDict[tuple[bytes, int], _Pending] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queue or self._pending)

    def put(self, caller: bytes, job: Job, frames: Sequence[zmq.Frame]) -> None:
        """Queue a job for the model as it is now."""
        try:
            model = self._models.find(job.model, job.digest, job.question)
        except Exception as error:  # of a plugin as well: its caller gets an answer and the log gets the reason
            if not isinstance(error, ModelLoading):
                log.exception("job can't be queued", extra={"fields": {"model": job.model}})
            self._callers.fail(caller, job.id, _as_service_error(error))
            return
        try:
            inputs = {
                name: np.frombuffer(frame.buffer, spec.dtype).reshape(spec.shape)
                for (name, spec), frame in zip(job.inputs.items(), frames, strict=True)
            }
        except ValueError as error:
            log.error("job can't be read", extra={"fields": {"model": job.model, "reason": str(error)}})
            self._callers.fail(caller, job.id, Internal("the job did not arrive whole; the worker's log has more"))
            return
        self._queue.put(Waiting(caller, job, inputs, model))

    def cancel(self, caller: bytes, job_id: int) -> None:
        """Forget a job, however far it has got."""
        self._queue.cancel(caller, job_id)
        self._pending.pop((caller, job_id), None)

    def forget(self, caller: bytes) -> None:
        """Forget what an API process asked for that is gone."""
        self._queue.forget(caller)
        for place in [place for place in self._pending if place[0] == caller]:
            del self._pending[place]

    def run_batch(self) -> None:
        """Run the jobs that go together with the one that waited longest."""
        for late in self._queue.drop_expired(monotonic()):
            self._fail(late, DeadlineExceeded("the deadline passed while the image was queued"))
        if batch := self._queue.take():
            self._attempt(batch)
        metrics.QUEUE_DEPTH.labels(self._name).set(len(self._queue))

    def take_step(self) -> None:
        """Take one step of the expensive explanation that waited longest, then let others have their turn."""
        if not self._pending:
            return
        place, work = self._pending.popitem(last=False)
        if work.waiting.job.deadline <= monotonic():
            self._fail(work.waiting, DeadlineExceeded("the deadline passed before the explanation was worked out"))
            return
        start = perf_counter()
        self._in_flight.write([place], work.steps)
        try:
            answer = work.explanation.advance()
        except Exception as error:  # whatever a method does, its caller gets an answer and the log gets the reason
            log.exception("explanation failed", extra={"fields": {"model": work.waiting.job.model}})
            self._fail(work.waiting, _as_service_error(error))
            self._end_process_if_device_lost()
            return
        timings = msgspec.structs.replace(work.timings, backward=work.timings.backward + perf_counter() - start)
        if answer is None:
            self._pending[place] = replace(work, timings=timings, steps=work.steps + 1)
        else:
            self._done(work.waiting, answer, timings)

    def _attempt(self, batch: list[Waiting]) -> None:
        """Answer a batch; if it fails, have each of its jobs tried alone, so that only the one at fault fails.

        Where another server is at fault, all fail: others would wait for it once more for each of them. A batch for
        which there isn't memory is halved. Each part has a turn of its own, in which it may be found to be cancelled
        or too late.
        """
        try:
            self._answer(batch)
            return
        except Exception as error:  # whatever a batch does, its callers get an answer and the log gets the reason
            log.exception("batch failed", extra={"fields": {"model": batch[0].job.model, "images": len(batch)}})
            hopeless = len(batch) == 1 or isinstance(error, PredictorFailed)
            for waiting in batch if hopeless else ():
                self._fail(waiting, _as_service_error(error))
            self._end_process_if_device_lost()
            part = (len(batch) + 1) // 2 if memory.was_lacking(error) else 1
        # What the failed attempt held is free only when its exception is gone.
        if not hopeless:
            memory.give_back(self._device)
            self._queue.put_back(batch, part)

    def _end_process_if_device_lost(self) -> None:
        """After some faults CUDA fails for ever; then this raises, and the supervisor starts another worker."""
        if memory.device_type(self._device) == "cuda":
            import torch

            torch.cuda.synchronize(self._device)

    def _answer(self, batch: list[Waiting]) -> None:
        taken = monotonic()
        self._in_flight.write(((waiting.caller, waiting.job.id) for waiting in batch), step=0)
        inputs, questions = [waiting.inputs for waiting in batch], [waiting.job.question for waiting in batch]
        result = engine.run(batch[0].model, inputs, questions, self._max_forward_passes)
        metrics.BATCH_SIZE.labels(batch[0].job.model.partition("@")[0]).observe(len(batch))
        metrics.DEVICE_MEMORY.labels(self._name).set(memory.held(self._device))
        ended: list[tuple[Waiting, Answer | ServiceError, Timings]] = []
        for waiting, answer in zip(batch, result.answers, strict=True):
            backward = result.backward if waiting.job.question else 0.0
            timings = Timings(taken - waiting.job.sent, result.forward, backward)
            if isinstance(answer, engine.Pending):
                self._pending[waiting.caller, waiting.job.id] = _Pending(waiting, answer, timings)
            else:
                ended.append((waiting, answer, timings))
        for waiting, outcome, timings in ended:  # last, since a caller found to be gone has all else forgotten
            if isinstance(outcome, ServiceError):
                self._fail(waiting, outcome)
            else:
                self._done(waiting, outcome, timings)

    def _done(self, waiting: Waiting, answer: Answer, timings: Timings) -> None:
        self._callers.reply(waiting.caller, Done(waiting.job.id, timings, answer), *answer.frames)

    def _fail(self, waiting: Waiting, error: ServiceError) -> None:
        self._callers.fail(waiting.caller, waiting.job.id, error)


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if memory.was_lacking(error):
        return OutOfMemory("the device has no memory for this, even alone; fewer targets or another method would help")
    return Internal("the model failed on this batch; the worker's log has the reason")
