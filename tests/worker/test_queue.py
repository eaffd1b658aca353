import numpy as np

from service.worker.messages import Job
from service.worker.queue import JobQueue, Waiting


def waiting(job_id: int, model: str = "a@1", deadline: float = 100.0, caller: bytes = b"api") -> Waiting:
    return Waiting(caller, Job(job_id, model, (1, 1, 3), deadline, 0.0), np.zeros((1, 1, 3), np.uint8))


def queue_of(*jobs: Waiting) -> JobQueue:
    queue = JobQueue()
    for job in jobs:
        queue.put(job)
    return queue


def ids(batch: list[Waiting]) -> list[int]:
    return [member.job.id for member in batch]


def test_the_first_jobs_model_decides_and_others_of_it_ride_along():
    queue = queue_of(waiting(1, "a@1"), waiting(2, "b@1"), waiting(3, "a@1"), waiting(4, "a@2"))
    assert queue.first_model() == "a@1"
    assert ids(queue.take("a@1", limit=8)) == [1, 3]
    assert queue.first_model() == "b@1"
    assert len(queue) == 2


def test_a_batch_keeps_its_limit_and_the_rest_keep_their_place():
    queue = queue_of(*(waiting(i) for i in range(5)))
    assert [ids(queue.take("a@1", limit=2)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]
    assert queue.first_model() is None


def test_jobs_of_different_callers_may_have_the_same_id():
    queue = queue_of(waiting(1, caller=b"one"), waiting(1, caller=b"two"))
    queue.cancel(b"one", 1)
    assert [job.caller for job in queue.take("a@1", limit=8)] == [b"two"]


def test_a_job_past_its_deadline_is_dropped_and_no_other():
    queue = queue_of(waiting(1, deadline=5.0), waiting(2, deadline=5.1), waiting(3, deadline=4.0))
    assert ids(queue.drop_expired(now=5.0)) == [1, 3]
    assert ids(queue.take("a@1", limit=8)) == [2]


def test_cancelling_a_job_that_is_gone_does_nothing():
    queue = queue_of(waiting(1))
    queue.cancel(b"api", 7)
    assert len(queue) == 1
