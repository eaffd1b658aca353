import pytest

from gradcam_service.worker.suspicion import Suspicion

CRASH, KILL = True, False


@pytest.mark.parametrize(
    ("deaths", "guilty"),
    [
        ([(0, KILL)], False),
        ([(0, KILL), (0, KILL)], False),  # the first with others, the second alone
        ([(0, KILL), (0, KILL), (0, KILL)], True),
        ([(0, CRASH)], False),
        ([(0, CRASH), (0, CRASH)], True),
        ([(0, CRASH), (0, KILL)], False),
        ([(0, KILL), (0, CRASH)], False),
        ([(0, KILL), (0, CRASH), (0, CRASH)], True),
        ([(0, CRASH), (0, KILL), (0, KILL)], True),
        ([(0, KILL), (1, KILL), (2, KILL), (3, KILL)], False),  # no step twice
        ([(0, KILL), (3, KILL), (1, KILL), (3, KILL)], True),
        ([(0, CRASH), (1, CRASH), (2, CRASH)], False),
    ],
)
def test_what_has_a_job_refused(deaths: list[tuple[int, bool]], guilty: bool):
    suspicion = Suspicion()
    verdicts = [suspicion.died(*death) for death in deaths]
    assert verdicts == [False] * (len(deaths) - 1) + [guilty]


def test_a_job_is_run_alone_as_soon_as_a_worker_has_died_of_it():
    suspicion = Suspicion()
    assert not suspicion.suspected
    suspicion.died(0, KILL)
    assert suspicion.suspected
