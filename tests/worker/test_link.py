"""The way to one worker, against a worker that misbehaves: over a real ZeroMQ socket, in one event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

import msgspec
import numpy as np
import pytest

from gradcam_service.errors import DeadlineExceeded, Internal, ModelFailed, TooExpensive, WorkerLost
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model
from gradcam_service.registry.spec import Preprocess
from gradcam_service.worker.client import Workers
from gradcam_service.worker.in_flight_log import InFlightLog
from gradcam_service.worker.link import WorkerLink
from gradcam_service.worker.messages import (
    Cancel,
    Failed,
    Hello,
    Job,
    Managed,
    Request,
    Status,
    encode,
)
from live import PATIENCE

from .peer import MAPS, MODELS, SCORES, Peer, ask, done, linked, until

DEATH = """
import os, sys
from gradcam_service.worker.in_flight_log import note_crashes
address, signal, file = sys.argv[1:]
note_crashes(address)
exec(compile(f"os.kill(os.getpid(), {signal})", file, "exec"))
"""
"""Of a worker at an address, of a signal, while it runs the code of a file."""


def test_an_answer_arrives_as_it_was_sent(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        await peer.say(done(job), SCORES.tobytes(), MAPS.tobytes())
        found, _ = await answer
        np.testing.assert_array_equal(found.scores, SCORES)
        np.testing.assert_array_equal(found.maps, MAPS)
        assert link.outstanding == 0
        await peer.hears_nothing()  # what has been answered is not cancelled

    linked(tmp_path, play)


def test_a_worker_that_stops_costs_its_job_no_more_than_the_deadline(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link, seconds=0.2)
        job = await peer.hear(Job)
        with pytest.raises(DeadlineExceeded):
            await answer
        assert (await peer.hear(Cancel)).id == job.id

    linked(tmp_path, play)


def test_a_second_answer_is_nobodys(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        first = ask(link)
        job = await peer.hear(Job)
        await peer.say(done(job), SCORES.tobytes(), MAPS.tobytes())
        await peer.say(Failed(job.id, "internal", "or was it?"))
        await first
        second = ask(link)
        other = await peer.hear(Job)
        await peer.say(done(job), MAPS.tobytes(), MAPS.tobytes())  # and a third one
        await peer.say(done(other), SCORES.tobytes(), MAPS.tobytes())
        np.testing.assert_array_equal((await second)[0].scores, SCORES)

    linked(tmp_path, play)


@pytest.mark.parametrize(
    "rubbish",
    [
        [b""],
        [b"\xc1"],
        [b"never heard of it"],
        [msgspec.msgpack.encode({"type": "Poem", "id": 0})],
        [msgspec.msgpack.encode({"type": "Failed", "id": "zero"})],
    ],
)
def test_a_worker_that_speaks_rubbish_is_lost_until_it_greets_again(tmp_path: Path, rubbish: list[bytes]):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        await peer.say(*rubbish)
        with pytest.raises(WorkerLost) as lost:
            await answer
        assert lost.value.step is None  # which says nothing against the job
        assert not link.up
        heard = [await peer.hear(Hello | Cancel), await peer.hear(Hello | Cancel)]
        assert Cancel(job.id) in heard  # no copy is left behind
        (hello,) = (one for one in heard if isinstance(one, Hello))
        await peer.say(Status(hello.session, MODELS, started=True))
        await until(lambda: link.up)

    linked(tmp_path, play)


@pytest.mark.parametrize(
    ("frames", "maps"),
    [
        ([], (2, 2, 2)),
        ([SCORES.tobytes()], (2, 2, 2)),
        ([SCORES.tobytes(), MAPS.tobytes(), b""], (2, 2, 2)),
        ([SCORES.tobytes(), MAPS.tobytes()[:-1]], (2, 2, 2)),
        ([SCORES.tobytes()[:-1], MAPS.tobytes()], (2, 2, 2)),
        ([SCORES.tobytes(), MAPS.tobytes()], (2, 2, 3)),
    ],
)
def test_an_answer_that_does_not_fit_fails_its_job_and_no_other(
    tmp_path: Path, frames: list[bytes], maps: tuple[int, ...]
):
    async def play(link: WorkerLink, peer: Peer) -> None:
        broken, whole = ask(link), ask(link)
        jobs = [await peer.hear(Job), await peer.hear(Job)]
        await peer.say(done(jobs[0], maps), *frames)
        await peer.say(done(jobs[1]), SCORES.tobytes(), MAPS.tobytes())
        with pytest.raises(Internal):
            await broken
        await whole
        assert link.up

    linked(tmp_path, play)


def test_an_error_of_a_kind_that_nobody_knows_is_still_an_error(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        await peer.say(Failed(job.id, "of_a_kind_yet_to_come", "it went wrong"))
        with pytest.raises(Internal, match="it went wrong"):
            await answer

    linked(tmp_path, play)


def test_a_worker_that_says_a_model_is_loaded_does_not_answer_a_job(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        await peer.say(Managed(job.id))
        with pytest.raises(Internal):
            await answer

    linked(tmp_path, play)


def test_a_worker_that_dies_between_two_frames_has_said_nothing(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        await peer.begin_to_say(encode(done(job)), SCORES.tobytes())
        peer.die()
        with pytest.raises(WorkerLost):
            await answer
        assert not link.up

    linked(tmp_path, play)


@pytest.mark.parametrize(
    ("end", "file", "crashed"),
    [
        (signal.SIGSEGV, "/worker/jobs.py", True),
        (signal.SIGABRT, "<a kernel's>", True),
        (signal.SIGSEGV, "/worker/loader.py", False),  # a model that was loaded meanwhile is no fault of a job's
        (signal.SIGKILL, "/worker/jobs.py", False),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_what_a_dead_worker_was_at_and_whether_it_crashed_is_known_from_its_log(
    tmp_path: Path, begun: bool, end: signal.Signals, file: str, crashed: bool
):
    async def play(link: WorkerLink, peer: Peer) -> None:
        answer = ask(link)
        job = await peer.hear(Job)
        log = InFlightLog(peer.address, longest=120.0)
        log.write([(peer.caller, job.id if begun else job.id + 1)], step=3)
        assert subprocess.run([sys.executable, "-c", DEATH, peer.address, str(int(end)), file]).returncode == -end
        peer.die()
        with pytest.raises(WorkerLost) as lost:
            await answer
        assert lost.value.step == (3 if begun else None)
        assert lost.value.crashed == crashed
        assert lost.value.overlong is None

    linked(tmp_path, play)


def test_a_job_that_takes_too_long_is_not_said_to_kill_workers(tmp_path: Path):
    async def worker(name: str) -> None:
        peer = Peer(f"ipc://{tmp_path}/{name}.sock")
        hello = await peer.hear(Hello)
        await peer.say(Status(hello.session, [Model("a", "1", [], "ready", card=card())], started=True))
        job = await peer.hear(Job)
        InFlightLog(peer.address, longest=0.001).write([(peer.caller, job.id)], step=0)
        await asyncio.sleep(0.01)
        peer.die()

    async def scene() -> None:
        workers = Workers({name: f"ipc://{tmp_path}/{name}.sock" for name in ("one", "other")})
        tasks = [asyncio.create_task(task) for task in (workers.run(), worker("one"), worker("other"))]
        await until(lambda: all(link.up for link in workers.links))
        pixels = np.zeros((4, 4, 3), np.uint8)
        with pytest.raises(TooExpensive, match=r"longer than the 0\.001 s that GRADCAM_TURN_SECONDS"):
            await workers.infer("a@1", "sha256:0", {"image": pixels}, None, monotonic() + PATIENCE)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scene())


def card() -> Card:
    preprocess = Preprocess((0, 0, 0), (1, 1, 1), resize=(4, 4))
    return Card("sha256:0", "zoo", "", 0, "classification", "softmax", [], preprocess, 8, "eager", "", [], [])


def test_a_send_to_nobody_fails_at_once_and_the_next_worker_never_hears_of_it(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        peer.die()
        await until(lambda: not link.up)
        for attempt in (ask(link, seconds=PATIENCE), asyncio.create_task(link.load("a@1", monotonic() + PATIENCE))):
            async with asyncio.timeout(PATIENCE / 2):
                with pytest.raises(WorkerLost):
                    await attempt
        abandoned = ask(link, seconds=PATIENCE)
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        following = Peer(peer.address)
        await following.greet()
        await until(lambda: link.up)
        await following.hears_nothing()
        answer = ask(link)
        job = await following.hear(Job)
        await following.say(done(job), SCORES.tobytes(), MAPS.tobytes())
        await answer
        following.die()

    linked(tmp_path, play)


def test_who_finds_the_worker_gone_leaves_no_error_that_nobody_reads(tmp_path: Path):
    complaints: list[dict[str, object]] = []

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        link = WorkerLink("cpu", f"ipc://{tmp_path}/nobody.sock", lambda: None)
        link.up = True  # as it is until its death is noticed
        running = asyncio.create_task(link.run())
        with pytest.raises(WorkerLost):
            await ask(link)
        assert not link.up
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scene())
    gc.collect()
    assert complaints == []


def test_a_worker_that_dies_unnoticed_leaves_no_job_to_the_next_one(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        peer.die()  # what follows is sent before the loop can notice
        answer = ask(link, seconds=PATIENCE)
        following = Peer(peer.address)
        async with asyncio.timeout(PATIENCE / 2):
            with pytest.raises(WorkerLost):
                await answer
        await following.greet()
        await following.hears_nothing()
        following.die()

    linked(tmp_path, play)


def test_what_a_dead_worker_said_of_itself_is_not_true_of_the_next_one(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        session = await peer.greet()
        await until(lambda: link.up)
        peer.die()
        await until(lambda: not link.up)
        following = Peer(peer.address)
        await following.hear(Hello)
        await following.say(Status(session, MODELS, started=True))  # as if it had been under way for long
        await asyncio.sleep(0.1)
        assert not link.up
        following.die()

    linked(tmp_path, play, up=False)


def test_a_model_that_can_not_be_loaded_is_told_by_its_own_error(tmp_path: Path):
    async def play(link: WorkerLink, peer: Peer) -> None:
        load = asyncio.create_task(link.load("a@1", monotonic() + PATIENCE))
        request = await peer.hear(Request)
        await peer.say(Failed(request.id, "model_failed", "no weights"))
        with pytest.raises(ModelFailed, match="no weights"):
            await load

    linked(tmp_path, play)
