"""What is promised of classes holds of answers, captions and actions: passes that are shared, deadlines, faults."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.calls import values
from exposed import value
from live import Service, until

from .answering import passed
from .faulty import BUSY, ask, codes, picture

QUESTIONS = ("red star", "star", "blue", "star red blue")
SENT: dict[str, tuple[list[tuple[str, bytes]], dict[str, Any]]] = {
    "answers": ([("image", picture(1))], {"question": "red star", "target": ["no", 0]}),
    "captions": ([("image", picture(2))], {}),
    "acts": ([("frames", picture(3)), ("frames", picture(4))], {"target": '{"output": "value"}'}),
}
"""One of each kind: the files and the options."""


def asked(service: Service, model: str, fault: int = 0, **options: Any) -> dict[str, Any]:
    """The result of one of `SENT`, or the problem that it has; with a fault in its first picture."""
    files, own = SENT[model]
    first = [(files[0][0], picture(1, fault))] if fault else files[:1]
    data = {"model": model, "output": "map", **own, **options}
    answer = service.post("/explain", files=[*first, *files[1:]], data=data)
    body: dict[str, Any] = answer.json()
    return body["results"][0] if answer.status_code == 200 else body


def question(service: Service, seed: int, text: str) -> dict[str, Any]:
    """The result of a question about a picture."""
    data = {"model": "answers", "question": text, "output": "map"}
    answer = service.post("/explain", files={"image": picture(seed)}, data=data)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()["results"][0]
    return result


@pytest.fixture(scope="module")
def alone(faults: Service) -> dict[str, dict[str, Any]]:
    """The answer to each kind, asked by itself; their models are loaded then."""
    return {model: asked(faults, model) for model in SENT}


@contextmanager
def queued(service: Service, *calls: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """While the device is busy, calls are made until all of them are with the worker."""

    def decoded() -> float:
        return value(service.client, "gradcam_stage_duration_seconds_count", stage="decode")

    wanted = decoded() + len(calls)
    with ThreadPoolExecutor(len(calls)) as threads:
        made = [threads.submit(call) for call in calls]
        until(decoded, wanted)
        yield made


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Two results are one, to the rounding of batches of other sizes."""
    assert found.keys() == expected.keys(), found
    for name in found.keys() - {"explanations"}:
        assert leaves(found[name]) == pytest.approx(leaves(expected[name]), abs=1e-5), name
    for one, other in zip(found["explanations"], expected["explanations"], strict=True):
        assert leaves(one["target"]) == pytest.approx(leaves(other["target"]), abs=1e-5)
        maps = values(one["map"]), values(other["map"])
        np.testing.assert_allclose(*maps, rtol=0, atol=1e-6 * max(1, np.abs(maps[1]).max()))


def leaves(told: Any) -> list[Any]:
    """What is in lists and objects, one after the other."""
    if isinstance(told, dict):
        return [leaf for name in sorted(told) for leaf in leaves(told[name])]
    return [leaf for each in told for leaf in leaves(each)] if isinstance(told, list) else [told]


def test_questions_about_one_picture_share_its_pass_and_ride_with_others(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]], busy: Callable[[], None]
):
    calls = [lambda s=seed, q=text: question(faults, s, q) for seed in (1, 2) for text in QUESTIONS[: 4 - seed + 1]]
    with queued(faults, *calls) as together:
        before = len(passed(folder))
        busy()
        found = [one.result() for one in together]
    assert passed(folder)[before:] == [2]  # seven questions about two pictures
    before = len(passed(folder))
    expected = [call() for call in calls]
    assert passed(folder)[before:] == [1] * 7
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    assert len({str(one["answers"]) for one in expected}) == 7


def test_a_caption_takes_one_pass_and_its_decoder_one_for_each_word(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]]
):
    before, decoded = len(passed(folder)), len(passed(folder, "decoded"))
    result = asked(faults, "captions")
    assert passed(folder)[before:] == [1]
    words = len(result["explanations"])
    *spoken, explained = passed(folder, "decoded")[decoded:]
    assert words == 4  # as many as there is room for
    assert spoken == [1] * (1 + words)
    assert explained == words  # in one pass, a row for each word


def test_captions_of_one_picture_share_its_pass(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]], busy: Callable[[], None]
):
    texts = ("red star", "blue", "star star star")
    calls = [lambda t=text: asked(faults, "captions", caption=t) for text in texts]
    with queued(faults, lambda: asked(faults, "captions"), *calls) as together:
        before = len(passed(folder))
        busy()
        own, *found = [one.result() for one in together]
    assert passed(folder)[before:] == [1]
    same(own, alone["captions"])
    assert [one["caption"]["text"] for one in found] == [*texts]
    for call, one in zip(calls, found, strict=True):
        same(one, call())


def test_what_waits_past_its_deadline_never_runs(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]], busy: Callable[[], None]
):
    before = len(passed(folder))
    late = [asked(faults, model, timeout_ms=300) for model in SENT]
    assert [one["code"] for one in late] == ["deadline_exceeded"] * 3
    busy()
    assert codes(ask(faults, [0])) == ["ok"]
    assert passed(folder)[before:] == []


def test_what_nobody_waits_for_any_more_never_runs(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]], busy: Callable[[], None]
):
    def in_flight() -> float:
        return value(faults.client, "gradcam_in_flight")

    before, held = len(passed(folder)), in_flight()
    port = int(faults.url.rpartition(":")[2])
    callers = [http.client.HTTPConnection("127.0.0.1", port) for _ in range(2)]
    for caller, path in zip(callers, ("answers&question=star", "captions"), strict=True):
        caller.request("POST", f"/explain?model={path}", picture(1), {"Content-Type": "image/png"})
    until(in_flight, held + 2)
    for caller in callers:
        caller.close()
    until(in_flight, held)
    time.sleep(0.5)  # the worker is being told
    busy()
    same(asked(faults, "acts"), alone["acts"])
    assert passed(folder)[before:] == [1]


def test_no_kind_of_request_fails_when_its_worker_is_killed(
    faults: Service, folder: Path, alone: dict[str, dict[str, Any]]
):
    """A caption is being worked out, a question and an agent wait; when another worker is up it is their turn again."""
    file = folder / "code" / "busy"
    with ThreadPoolExecutor(1) as thread:
        begun = thread.submit(asked, faults, "captions", BUSY)
        until(file.exists)
        with queued(faults, lambda: asked(faults, "answers"), lambda: asked(faults, "acts")) as waiting:
            os.kill(faults.pids("worker")[-1], signal.SIGKILL)
            file.unlink()
            until(file.exists)
            file.unlink()
            caption, answers, acts = [one.result() for one in (begun, *waiting)]
    assert len(caption["explanations"]) == 4, caption
    same(answers, alone["answers"])
    same(acts, alone["acts"])
