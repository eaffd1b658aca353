"""What a load test says of figures that are worked out by hand."""

from __future__ import annotations

import pytest

from verdict import Moment, Thresholds, judged, table, windows

USUAL = Thresholds(max_failures=0.1, min_load=80, max_growth=2, max_p95=1000)
DEVICE_BOUND = {"decode": 0.13, "queue": 0.6, "forward": 0.17, "backward": 0.02, "render": 0.05, "total": 0.98}
"""The share of a request's time in each stage; the rest of the total is everything else, 2 % are outside."""


def run(*parts: tuple[int, float, int, int], seconds: float = 10, failed: int = 0) -> list[Moment]:
    """Moments of every second of a run whose parts are as long as each other.

    Args:
        parts: users, and in each second what they would ask, requests that are made and the ms that each takes.
        seconds: of each part.
        failed: requests of each second.
    """
    moments, latencies = [Moment(0.0, parts[0][0])], dict[int, int]()
    for number, (users, asked, made, ms) in enumerate(parts):
        for second in range(1, int(seconds) + 1):
            last = moments[-1]
            latencies = latencies | {ms: latencies.get(ms, 0) + made}
            stages = {stage: last.stages.get(stage, 0) + share * ms * made for stage, share in DEVICE_BOUND.items()}
            at = number * seconds + second
            counts = (last.asked + asked, last.made + made, last.failed + failed)
            moments.append(Moment(at, users, *counts, latencies, stages))
    return moments


def test_load_that_is_borne_is_said_to_be():
    met, said = judged(run(*[(10, 20, 20, 140)] * 6), USUAL)
    assert met
    assert said == [
        "kept up with 20 requests/s; most of the time: device (queue + forward 77 % of the time)",
        "every threshold was met",
    ]


def test_a_median_that_doubles_while_users_stay_the_same_is_saturation():
    moments = run(*[(16, 32, 31, 200)] * 5, (16, 32, 31, 410))
    assert [part.percentile(0.5) for part in windows(moments)] == [200] * 5 + [410]
    met, said = judged(moments, USUAL)
    assert not met
    assert said == [
        "saturated at 31 requests/s; bottleneck: device (queue + forward 77 % of the time)",
        "half of the requests took up to 200 ms, and 410 ms later, with no more users; 2 times as long is allowed",
    ]
    assert judged(run(*[(16, 32, 31, 200)] * 5, (16, 32, 31, 400)), USUAL)[0]  # twice, and no more


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(
            [(1, 2, 2, 40), (10, 20, 20, 60), (20, 40, 40, 90), (30, 60, 60, 130)], id="more users wait longer"
        ),
        pytest.param([(16, 32, 32, 4)] * 5 + [(16, 32, 32, 24)], id="a few milliseconds"),
        pytest.param([(1, 1, 1, 40)] * 5 + [(1, 1, 1, 400)], id="too few to have a median"),
        pytest.param([(10, 20, 2, 900)] + [(10, 20, 20, 90)] * 5, id="a slow start"),
        pytest.param([(10, 20, 20, 400)] + [(10, 20, 20, 90)] * 5, id="it became faster"),
        pytest.param([(2, 4, 4, 40)] * 2 + [(20, 40, 40, 90)] * 2 + [(2, 4, 4, 200)] * 2, id="the end of a spike"),
    ],
)
def test_what_is_no_saturation(parts: list[tuple[int, float, int, int]]):
    met, said = judged(run(*parts), USUAL)
    assert (met, said[0].split()[0]) == (True, "kept")


def test_load_that_falls_short_at_the_end_of_a_ramp_is_saturation_though_most_of_it_was_put_on():
    parts = [(10, 20, 20, 40), (20, 40, 40, 60), (30, 60, 60, 90), (40, 80, 62, 640)]
    met, said = judged(run(*parts), USUAL)  # 182 of 200 in all, 62 of 80 at the end
    assert not met
    assert said == [
        "saturated at 62 requests/s; bottleneck: device (queue + forward 77 % of the time)",
        "620 requests were made of 800 that the users make if they are answered at once, in the seconds 30 to 40; "
        "80 % were to be",
    ]


def test_refusals_are_saturation_and_other_failures_are_not():
    moments = run(*[(10, 20, 20, 50)] * 6, failed=5)
    met, said = judged(moments, USUAL, refused=300)
    assert not met
    assert said[0].startswith("saturated at 15 requests/s;")
    assert said[1:] == ["300 requests were refused with 429", "25.00 % of requests failed; 0.1 % may"]
    assert judged(moments, USUAL)[1][0].startswith("kept up with 15 requests/s;")
    gone = judged(run((10, 20, 20, 1), failed=20), USUAL)
    assert gone == (False, ["nothing was answered", "100.00 % of requests failed; 0.1 % may"])


def test_a_short_run_is_one_part_of_which_the_load_is_asked():
    moments = run((10, 20, 11, 300), seconds=6)
    assert [(part.begin.at, part.end.at) for part in windows(moments)] == [(0, 6)]
    said = judged(moments, USUAL)[1]
    assert "66 requests were made of 120" in said[1]
    assert judged(moments, Thresholds(0.1, 50, 2, 1000))[0]


def test_a_run_is_cut_in_six_whenever_users_are_counted():
    moments = [Moment(second * 1.03, made=second) for second in range(60)]
    edges = [(part.begin.at, part.end.at) for part in windows(moments)]
    assert [round(end / 10) for _, end in edges] == [1, 2, 3, 4, 5, 6]
    assert edges[-1][1] == moments[-1].at
    assert sum(part.made for part in windows(moments)) == 59


def test_a_run_that_is_ended_at_once_has_shown_nothing():
    assert judged([Moment(0.0, 10)], USUAL) == (False, ["nothing was answered", "no request was made"])


def test_the_slowest_requests_are_what_95_percent_are_within():
    (part,) = windows([Moment(0.0), Moment(5.0, made=100, latencies={10: 50, 20: 44, 900: 2, 1500: 4})])
    assert [part.percentile(share) for share in (0.5, 0.94, 0.95, 0.96, 0.97)] == [10, 20, 900, 900, 1500]
    assert judged([part.begin, part.end], Thresholds(0.1, 80, 2, 899))[1][1:] == [
        "95 % of requests took up to 900 ms; 899 ms were allowed"
    ]


@pytest.mark.parametrize(
    ("stages", "bottleneck"),
    [
        (
            {"queue": 50, "decode": 300, "render": 330, "total": 800},
            "API processes (decode + render + everything else 75 %",
        ),
        ({"queue": 50, "decode": 30, "total": 100}, "network or load generator (outside the service 90 %"),
        ({"read": 700, "queue": 100, "forward": 200, "total": 1000}, "network or load generator (read 70 %"),
        # four of five stages take 1500 of a request of 1000, as its pictures were in several of them at the same time
        ({"decode": 300, "queue": 600, "forward": 600, "total": 1000}, "device (queue + forward 80 %"),
    ],
)
def test_the_bottleneck_is_where_most_of_the_time_is_spent(stages: dict[str, float], bottleneck: str):
    (part,) = windows([Moment(0.0), Moment(5.0, made=1, latencies={1000: 1}, stages=stages)])
    assert sum(part.shares().values()) == pytest.approx(1)
    assert part.bottleneck() == f"{bottleneck} of the time)"


def test_without_server_timing_the_bottleneck_is_unknown():
    (part,) = windows([Moment(0.0), Moment(5.0, made=1, latencies={1000: 1})])
    assert part.bottleneck() == "unknown, as no answer says how long its stages took"


def test_the_table_has_a_row_for_each_part():
    rows = table(run((10, 20, 20, 140), (10, 20, 10, 300), failed=1)).splitlines()[1:]
    assert [row.split() for row in rows] == [
        ["0", "to", "10", "10", "20.0", "19.0", "10", "140", "140"],
        ["10", "to", "20", "10", "20.0", "9.0", "10", "300", "300"],
    ]
