"""The way to two workers, against workers that die: over real ZeroMQ sockets, in one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from gradcam_service.errors import CrashesWorker, ModelFailed, ModelLoading, NotReady
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model
from gradcam_service.registry.spec import Preprocess
from gradcam_service.worker.client import Answer, Timings, Workers
from gradcam_service.worker.in_flight_log import InFlightLog
from gradcam_service.worker.messages import Cancel, Failed, Hello, Job, Load, Managed, Status
from live import PATIENCE

from .peer import MAPS, SCORES, Peer, done, until

CARD = Card(
    "sha256:0",
    "zoo",
    "",
    0,
    "classification",
    "softmax",
    [],
    Preprocess((0, 0, 0), (1, 1, 1), pad=8),
    8,
    "",
    "",
    [],
    [],
)
READY = [Model("a", "1", [], "ready", card=CARD)]
UNLOADED = [Model("a", "1", [], "unloaded", card=CARD)]


def address(tmp_path: Path, name: str) -> str:
    return f"ipc://{tmp_path}/{name.replace(':', '-')}.sock"


async def greet(peer: Peer, models: list[Model] = READY) -> None:
    hello = await peer.hear(Hello)
    assert isinstance(hello, Hello)
    await peer.say(Status(hello.session, models, started=True))


def between(
    tmp_path: Path, play: Callable[[Workers, list[Peer]], Awaitable[None]], models: list[Model] = READY
) -> None:
    """Play a scene between an API process and two workers."""

    async def scene() -> None:
        addresses = {name: address(tmp_path, name) for name in ("cpu:0", "cpu:1")}
        peers = [Peer(one) for one in addresses.values()]
        workers = Workers(addresses)
        running = asyncio.create_task(workers.run())
        try:
            for peer in peers:
                await greet(peer, models)
            await until(lambda: workers.devices() == {"cpu:0": "up", "cpu:1": "up"})
            await play(workers, peers)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for peer in peers:
                peer.die()

    asyncio.run(scene())


def ask(workers: Workers, seconds: float = PATIENCE) -> asyncio.Task[tuple[Answer, Timings]]:
    inputs = {"image": np.zeros((4, 4, 3), np.uint8)}
    return asyncio.create_task(workers.infer("a@1", "sha256:0", inputs, None, monotonic() + seconds))


async def hear_job(peer: Peer) -> Job:
    job = await peer.hear(Job)
    assert isinstance(job, Job)
    return job


async def answer(peer: Peer, job: Job) -> None:
    await peer.say(done(job), SCORES.tobytes(), MAPS.tobytes())


def test_jobs_one_after_the_other_take_turns(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        heard = Counter[int]()

        async def serve(number: int) -> None:
            while True:
                job = await hear_job(peers[number])
                heard[number] += 1
                await answer(peers[number], job)

        serving = [asyncio.create_task(serve(number)) for number in (0, 1)]
        for _ in range(10):
            await ask(workers)
        for task in serving:
            task.cancel()
        assert heard == {0: 5, 1: 5}

    between(tmp_path, play)


def test_a_job_goes_where_the_fewest_are(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        first = ask(workers)
        slow = await hear_job(peers[0])
        for _ in range(3):  # while the first one takes its time
            next_one = ask(workers)
            await answer(peers[1], await hear_job(peers[1]))
            await next_one
        await answer(peers[0], slow)
        await first

    between(tmp_path, play)


def test_a_job_whose_worker_dies_moves_to_the_living_one_at_once(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        await hear_job(peers[0])
        peers[0].die()
        moved = await hear_job(peers[1])
        assert not moved.alone  # it was not at it
        await answer(peers[1], moved)
        await job
        assert workers.devices() == {"cpu:0": "down", "cpu:1": "up"}
        assert workers.devices_of("a@1") == ["cpu:1"]

    between(tmp_path, play)


def test_a_job_sent_to_a_worker_that_has_just_died_moves_too(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        peers[0].die()  # which nobody has noticed when the job is sent
        job = ask(workers)
        await answer(peers[1], await hear_job(peers[1]))
        await job

    between(tmp_path, play)


def test_a_job_that_both_workers_die_with_waits_for_the_next_until_its_deadline(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job, hasty = ask(workers), ask(workers, seconds=0.5)
        for peer in peers:
            await hear_job(peer)
        for peer in peers:
            peer.die()
        with pytest.raises(NotReady):
            await hasty
        peers[0] = Peer(address(tmp_path, "cpu:0"))
        await greet(peers[0])
        await answer(peers[0], await hear_job(peers[0]))
        await job

    between(tmp_path, play)


def test_a_job_that_has_killed_three_workers_is_refused_and_was_alone_after_the_first(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        for death, number in enumerate((0, 1, 0)):
            peer = peers[number]
            sent = await hear_job(peer)
            assert sent.alone == (death > 0)
            InFlightLog(peer.address, longest=120.0).write([(peer.caller, sent.id)], step=0)
            peer.die()
            if death < 2:
                peers[number] = Peer(peer.address)
                await greet(peers[number])
        with pytest.raises(CrashesWorker):
            await job

    between(tmp_path, play)


def test_kills_at_different_steps_are_no_fault_of_the_job(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        for step, number in enumerate((0, 1, 0, 1)):
            peer = peers[number]
            sent = await hear_job(peer)
            InFlightLog(peer.address, longest=120.0).write([(peer.caller, sent.id)], step)
            peer.die()
            peers[number] = Peer(peer.address)
            await greet(peers[number])
        await answer(peers[0], await hear_job(peers[0]))
        await job

    between(tmp_path, play)


def test_what_needs_the_full_model_waits_until_the_worker_that_was_asked_has_it(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        await peers[0].say(Failed((await hear_job(peers[0])).id, "needs_full_model", "not yet"))
        load = await peers[0].hear(Load)
        assert (load.model, load.again, load.whole) == ("a@1", False, True)
        other = ask(workers)  # which the form answers meanwhile
        await answer(peers[1], await hear_job(peers[1]))
        await other
        await peers[0].say(Managed(load.id))
        await answer(peers[0], await hear_job(peers[0]))
        await job

    between(tmp_path, play)


def test_what_needs_the_full_model_is_told_why_there_is_none(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        await peers[0].say(Failed((await hear_job(peers[0])).id, "needs_full_model", "not yet"))
        load = await peers[0].hear(Load)
        await peers[0].say(Failed(load.id, "model_failed", "it needs torch"))
        with pytest.raises(ModelFailed, match="it needs torch"):
            await job
        late = ask(workers, 1.0)
        await peers[1].say(Failed((await hear_job(peers[1])).id, "needs_full_model", "not yet"))
        with pytest.raises(ModelLoading, match="still being loaded"):
            await late

    between(tmp_path, play)


def test_what_needs_a_full_model_that_workers_die_of_is_refused_in_the_end(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        job = ask(workers)
        for number in (0, 1, 0):
            peer = peers[number]
            await peer.say(Failed((await hear_job(peer)).id, "needs_full_model", "not yet"))
            await peer.hear(Load)
            peer.die()
            peers[number] = Peer(peer.address)
            await greet(peers[number])
        with pytest.raises(ModelFailed, match="workers have died while they loaded it"):
            await job

    between(tmp_path, play)


def test_a_model_that_one_worker_can_load_is_loaded(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        load = asyncio.create_task(workers.load("a@1", monotonic() + PATIENCE))
        for peer in peers:
            await peer.hear(Load)
        await peers[0].say(Failed(0, "model_failed", "no room"))
        await peers[1].say(Managed(0))
        await load

    between(tmp_path, play, UNLOADED)


def test_nobody_waits_for_a_worker_that_is_busy_where_another_has_loaded_the_model(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        tasks = asyncio.all_tasks()
        load = asyncio.create_task(workers.load("a@1", monotonic() + 60))
        for peer in peers:
            await peer.hear(Load)
        await peers[1].say(Managed(0))
        async with asyncio.timeout(30):
            await load
        await peers[0].hear(Cancel)
        assert asyncio.all_tasks() <= tasks
        assert [link.outstanding for link in workers.links] == [0, 0]

    between(tmp_path, play, UNLOADED)


@pytest.mark.parametrize("again", [True, False])
def test_a_load_fails_where_all_fail_and_a_reload_where_one_does(tmp_path: Path, again: bool):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        load = asyncio.create_task(workers.load("a@1", monotonic() + PATIENCE, again))
        for peer in peers:
            await peer.hear(Load)
        await peers[0].say(Failed(0, "model_failed", "no room"))
        await peers[1].say(Managed(0) if again else Failed(0, "model_failed", "no room"))
        with pytest.raises(ModelFailed, match="no room"):
            await load

    between(tmp_path, play, UNLOADED)


def test_a_model_that_is_still_being_loaded_at_the_deadline_says_so(tmp_path: Path):
    async def play(workers: Workers, peers: list[Peer]) -> None:
        with pytest.raises(ModelLoading):
            await workers.ready_model("a", monotonic() + 0.3)

    between(tmp_path, play, UNLOADED)
