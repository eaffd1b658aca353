"""The pipeline without HTTP, on the embedded model in this process: the deadline holds in every stage."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import Any

import pytest

from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import Call, ExplainOptions
from gradcam_service.core.pipeline import Pipeline, Unobserved
from gradcam_service.errors import DeadlineExceeded
from gradcam_service.local import Local, open_model
from gradcam_service.settings import Settings
from gradcam_service.worker.messages import Answer, Timings
from repository import ROOT

SCENE = (ROOT / "service/gradcam_service/api/examples/scene.jpg").read_bytes()


@pytest.fixture(scope="module")
def scenes() -> Local:
    return open_model("scenes", Settings(device="cpu", cpus=1))


class Hindered:
    """An engine whose answers come when every thread for pixels has become busy with somebody else's work.

    Args:
        engine: what answers.
        capacity: has the threads.
        go: set when the threads may go on.
    """

    def __init__(self, engine: Local, capacity: Capacity, go: threading.Event) -> None:
        self._capacity, self._go = capacity, go
        self._engine = engine
        self.ready_model = engine.ready_model

    async def infer(self, *asked: Any) -> tuple[Answer, Timings]:
        answer = await self._engine.infer(*asked)
        begun = threading.Event()
        asyncio.ensure_future(  # noqa: RUF006  the threads hold it
            self._capacity.threads.run("somebody", monotonic() + 60, lambda: begun.set() or self._go.wait(60))
        )
        while not begun.is_set():
            await asyncio.sleep(0)
        return answer


def test_who_waits_for_a_drawing_is_told_in_time_though_every_thread_is_busy(scenes: Local):
    capacity, go = Capacity(scenes.settings), threading.Event()
    options = ExplainOptions(target=["star", "flower"], timeout_ms=5000)

    async def asked() -> list[object]:
        try:
            with capacity.admit() as admission:
                pipeline = Pipeline(Hindered(scenes, capacity, go), capacity)
                return (await pipeline.answer(Call([SCENE], options), admission, Unobserved())).results
        finally:
            go.set()

    (result,) = asyncio.run(asked())
    assert isinstance(result, DeadlineExceeded)
    assert capacity.images == scenes.settings.queue_size
