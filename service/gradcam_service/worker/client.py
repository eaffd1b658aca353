"""Client of the workers, for an asyncio process. Torch-free."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Literal

from msgspec.structs import replace

from gradcam_service.errors import (
    CrashesWorker,
    DeadlineExceeded,
    ModelFailed,
    ModelLoading,
    NeedsFullModel,
    NotReady,
    TooExpensive,
    WorkerLost,
)
from gradcam_service.question import Question
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model, resolve
from gradcam_service.worker.link import WorkerLink
from gradcam_service.worker.messages import Answer, Inputs, Quality, Timings
from gradcam_service.worker.suspicion import Suspicion

__all__ = ["Answer", "Inputs", "Quality", "Timings", "Workers"]

_STATES = ("failed", "unloaded", "loading", "ready")


class Workers:
    """Client of all workers, as one API process knows them.

    Args:
        addresses: ZeroMQ address of each worker, by its name.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._change = asyncio.Event()
        self.links = [WorkerLink(name, address, self._changed) for name, address in addresses.items()]

    async def run(self) -> None:
        """Keep in touch with all workers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for link in self.links:
                tasks.create_task(link.run())

    @property
    def ready(self) -> bool:
        """Whether a worker has loaded what it loads at its start, and at least one model can answer or has once."""
        return any(
            link.up and link.status.started and any(model.card is not None for model in link.status.models)
            for link in self.links
        )

    def devices(self) -> dict[str, Literal["up", "down"]]:
        """Each worker by the name of its device, and whether it is there."""
        return {link.name: "up" if link.up else "down" for link in self.links}

    def models(self) -> list[Model]:
        """Every model version, in the best state that it has on any worker."""
        best: dict[str, Model] = {}
        for model in (model for link in self.links for model in link.status.models):
            known = best.get(model.key)
            if known is None or _STATES.index(model.state) > _STATES.index(known.state):
                best[model.key] = model
        return list(best.values())

    def devices_of(self, model: str) -> list[str]:
        """The devices on which ``name@version`` is ready."""
        return [link.name for link in self.links if link.up and link.has(model)]

    async def ready_model(self, reference: str, deadline: float) -> tuple[Model, Card]:
        """The model that ``name``, ``name@version`` or ``name@alias`` means, loaded on demand.

        While no version of a bare name is ready, as after a worker's end, one that can't be loaded yields to the next.

        Raises:
            NotReady: no worker was up by ``deadline``.
            UnknownModel: there is no such model.
            ModelFailed: it can't be loaded.
            ModelLoading: it was not loaded by ``deadline``.
        """
        failures: dict[str, ModelFailed] = {}
        while True:
            await self._worker_is_up(deadline)
            known = [replace(model, state="failed") if model.key in failures else model for model in self.models()]
            model = resolve(known, reference)
            if model.key in failures:
                raise failures[model.key]
            if model.state == "ready" and model.card is not None:
                return model, model.card
            try:
                await self.load(model.key, deadline)
            except WorkerLost:
                pass
            except ModelFailed as error:
                failures[model.key] = error

    async def load(self, model: str, deadline: float, again: bool = False) -> None:
        """Have every worker load ``name@version``, ``again`` even where it is loaded.

        One worker that can is enough, unless it is to be loaded ``again``: then all have to.

        Raises:
            NotReady: no worker is up.
            WorkerLost: the worker died.
            ModelFailed, ModelLoading: as `ready_model`.
        """
        await self._load(model, self._require_worker(), deadline, again)

    async def _load(
        self, model: str, links: Sequence[WorkerLink], deadline: float, again: bool = False, whole: bool = False
    ) -> None:
        loads = [asyncio.create_task(link.load(model, deadline, again, whole)) for link in links]
        waiting = set(loads)
        try:
            while waiting:
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not again and any(load.exception() is None for load in ended):
                    return
        finally:
            for load in waiting:  # nobody waits for them any more; their workers load it all the same
                load.cancel()
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
        errors = [outcome for outcome in outcomes if outcome is not None]
        if errors:
            if isinstance(errors[0], DeadlineExceeded):
                reason = next(
                    (f": {known.reason}" for known in self.models() if known.key == model and known.reason), ""
                )
                raise ModelLoading(f"model {model} is still being loaded{reason}; try again in a while") from None
            raise errors[0]

    async def unload(self, model: str, deadline: float) -> None:
        """Have every worker forget ``name@version``."""
        await asyncio.gather(*(link.unload(model, deadline) for link in self._require_worker()))

    async def rescan(self, deadline: float) -> None:
        """Have every worker rescan the repositories.

        Raises:
            NotReady: no worker is up.
            ModelFailed: a repository can't be read.
        """
        await asyncio.gather(*(link.rescan(deadline) for link in self._require_worker()))

    async def infer(
        self, model: str, digest: str, inputs: Inputs, question: Question | None, deadline: float
    ) -> tuple[Answer, Timings]:
        """See `WorkerLink.infer`; the ready worker with the fewest jobs outstanding does it.

        A job whose worker dies is sent again, to be run alone if the worker was at it.

        One whose full model can't be brought in, as workers die of that, is given up by the same rule as a job.

        Raises:
            CrashesWorker: workers died of it.
            TooExpensive: a step of it takes so long that workers are taken for hung.
            NotReady, ModelFailed, ModelLoading, UnknownModel: none came up again with this model.
        """
        suspicion, of_load, whole = Suspicion(), Suspicion(), set[WorkerLink]()
        while True:
            able = [link for link in self.links if link.up and link.has(model, digest)]
            if not able:
                raise ModelLoading(f"model {model} is not loaded any more; try again")
            # One that has brought in the full model for this; else in turns, where there is no difference.
            link = min(able, key=lambda link: (link not in whole, link.outstanding, link.used))
            try:
                return await link.infer(model, digest, inputs, question, deadline, alone=suspicion.suspected)
            except NeedsFullModel:
                whole.add(link)
                try:
                    await self._load(model, [link], deadline, whole=True)
                except WorkerLost as lost:
                    if of_load.died(0, lost.crashed):
                        raise ModelFailed(
                            f"model {model} can't be loaded in full: workers have died while they loaded it; more "
                            "memory may help, and what its compiled form can do would work"
                        ) from None
            except WorkerLost as lost:
                crashed = lost.crashed or lost.overlong is not None
                if lost.step is not None and suspicion.died(lost.step, crashed):
                    raise _culprit(model, lost) from None
            await self.ready_model(model, deadline)

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    async def _worker_is_up(self, deadline: float) -> None:
        """Wait for a worker.

        Raises:
            NotReady: none is up by ``deadline``.
        """
        try:
            async with asyncio.timeout(deadline - monotonic()):
                while not any(link.up for link in self.links):
                    await self._change.wait()
        except TimeoutError:
            raise NotReady("no worker came up before the deadline; try again in a few seconds") from None

    def _require_worker(self) -> list[WorkerLink]:
        up = [link for link in self.links if link.up]
        if not up:
            raise NotReady("no worker is up yet; try again in a few seconds")
        return up


def _culprit(model: str, lost: WorkerLost) -> CrashesWorker | TooExpensive:
    """What is wrong with a job over which two workers were lost."""
    if lost.overlong is None:
        return CrashesWorker(f"the process that runs {model} has died of this image twice; another image may work")
    return TooExpensive(
        f"{model} works at this for longer than the {lost.overlong:g} s that GRADCAM_TURN_SECONDS gives one batch or "
        "step, and was stopped twice; fewer targets, another method, or more seconds would help"
    )
