from types import SimpleNamespace

import numpy as np

from gradcam_service.worker.messages import Job, TensorSpec
from gradcam_service.worker.queue import JobQueue, Waiting


def a_model(batch: int = 8) -> SimpleNamespace:
    """What the queue knows of a model: the most images in one batch, and which one it is."""
    return SimpleNamespace(card=SimpleNamespace(batch=batch))


A, B = a_model(), a_model()


def waiting(job_id: int, model: SimpleNamespace = A, deadline: float = 100.0, caller: bytes = b"api") -> Waiting:
    job = Job(job_id, "a@1", "sha256:0", {"image": TensorSpec("uint8", (1, 1, 3))}, deadline, 0.0)
    return Waiting(caller, job, {"image": np.zeros((1, 1, 3), np.uint8)}, model)


def queue_of(*jobs: Waiting) -> JobQueue:
    queue = JobQueue()
    for job in jobs:
        queue.put(job)
    return queue


def ids(batch: list[Waiting]) -> list[int]:
    return [member.job.id for member in batch]


def test_the_first_jobs_model_decides_and_others_of_it_ride_along():
    queue = queue_of(waiting(1, A), waiting(2, B), waiting(3, A), waiting(4, B))
    assert ids(queue.take()) == [1, 3]
    assert len(queue) == 2
    assert ids(queue.take()) == [2, 4]


def test_jobs_for_what_a_version_was_and_for_what_it_is_now_do_not_mix():
    newer = a_model()
    queue = queue_of(waiting(1, A), waiting(2, newer), waiting(3, A), waiting(4, newer))
    assert [ids(queue.take()) for _ in range(3)] == [[1, 3], [2, 4], []]


def test_a_batch_keeps_its_limit_and_the_rest_keep_their_place():
    small = a_model(batch=2)
    queue = queue_of(*(waiting(i, small) for i in range(5)))
    assert [ids(queue.take()) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_jobs_of_different_callers_may_have_the_same_id():
    queue = queue_of(waiting(1, caller=b"one"), waiting(1, caller=b"two"))
    queue.cancel(b"one", 1)
    assert [job.caller for job in queue.take()] == [b"two"]


def test_a_job_past_its_deadline_is_dropped_and_no_other():
    queue = queue_of(waiting(1, deadline=5.0), waiting(2, deadline=5.1), waiting(3, deadline=4.0))
    assert ids(queue.drop_expired(now=5.0)) == [1, 3]
    assert ids(queue.take()) == [2]


def test_a_batch_that_is_put_back_comes_in_parts_before_all_else():
    queue = queue_of(waiting(7), waiting(1, B), *(waiting(i) for i in (2, 3, 4, 5, 6)))
    batch = queue.take()
    assert ids(batch) == [7, 2, 3, 4, 5, 6]
    queue.put_back(batch, 3)
    queue.put(waiting(8))  # comes later and does not ride along
    assert len(queue) == 8
    first = queue.take()
    queue.put_back(first, 2)  # as it failed again
    assert [ids(queue.take()) for _ in range(6)] == [[7, 2], [3], [4, 5, 6], [1], [8], []]


def test_a_job_of_a_part_may_be_cancelled_or_too_late():
    queue = queue_of(*(waiting(i, deadline=5.0 if i == 3 else 100.0) for i in range(5)))
    queue.put_back(queue.take(), 2)
    queue.cancel(b"api", 0)
    queue.cancel(b"api", 4)
    assert ids(queue.drop_expired(now=6.0)) == [3]
    assert [ids(queue.take()) for _ in range(3)] == [[1], [2], []]


def test_cancelling_a_job_that_is_gone_does_nothing():
    queue = queue_of(waiting(1))
    queue.cancel(b"api", 7)
    assert len(queue) == 1


def test_the_jobs_of_a_caller_that_is_gone_go_with_it():
    queue = queue_of(waiting(1, caller=b"one"), waiting(1, caller=b"two"), waiting(2, caller=b"one"))
    queue.forget(b"one")
    assert [(job.caller, job.job.id) for job in queue.take()] == [(b"two", 1)]
    assert len(queue) == 0
