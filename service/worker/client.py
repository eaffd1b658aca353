"""The way to the workers, for an asyncio process. Torch-free."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import numpy as np

from service.errors import DeadlineExceeded, ModelLoading, NotReady
from service.registry.spec import Card, Model, resolve
from service.worker.link import WorkerLink
from service.worker.messages import Answer, Question, Timings

__all__ = ["Answer", "Question", "Timings", "Workers"]

_STATES = ("failed", "unloaded", "loading", "ready")


class Workers:
    """All workers, as one API process knows them.

    Args:
        addresses: ZeroMQ address of each worker.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.links = [WorkerLink(address) for address in addresses]

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
        """Each device, and whether its worker is there."""
        return {link.status.device or "unknown": "up" if link.up else "down" for link in self.links}

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
        return [link.status.device for link in self.links if link.up and link.has(model)]

    async def ready_model(self, reference: str, deadline: float) -> tuple[Model, Card]:
        """The model that ``name``, ``name@version`` or ``name@alias`` means, loaded on demand.

        Raises:
            NotReady: no worker is up.
            UnknownModel: there is no such model.
            ModelFailed: it can't be loaded.
            ModelLoading: it was not loaded by ``deadline``.
        """
        self._require_worker()
        model = resolve(self.models(), reference)
        while model.state != "ready" or model.card is None:
            await self.load(model.key, deadline)
            model = resolve(self.models(), model.key)
        return model, model.card

    async def load(self, model: str, deadline: float, again: bool = False) -> None:
        """Have every worker load ``name@version``, ``again`` even where it is loaded.

        Raises:
            NotReady, ModelFailed, ModelLoading: as `ready_model`.
        """
        try:
            await asyncio.gather(*(link.load(model, deadline, again) for link in self._require_worker()))
        except DeadlineExceeded:
            raise ModelLoading(f"model {model} is still being loaded; try again in a while") from None

    async def unload(self, model: str, deadline: float) -> None:
        """Have every worker forget ``name@version``."""
        await asyncio.gather(*(link.unload(model, deadline) for link in self._require_worker()))

    async def look(self, deadline: float) -> None:
        """Have every worker look at the repositories.

        Raises:
            NotReady: no worker is up.
            ModelFailed: a repository can't be read.
        """
        await asyncio.gather(*(link.look(deadline) for link in self._require_worker()))

    async def infer(
        self, model: str, digest: str, pixels: np.ndarray, question: Question | None, deadline: float
    ) -> tuple[Answer, Timings]:
        """See `WorkerLink.infer`; the ready worker with the fewest jobs outstanding does it."""
        able = [link for link in self._require_worker() if link.has(model, digest)]
        if not able:
            raise ModelLoading(f"model {model} is not loaded any more; try again")
        return await min(able, key=lambda link: link.outstanding).infer(model, digest, pixels, question, deadline)

    def _require_worker(self) -> list[WorkerLink]:
        up = [link for link in self.links if link.up]
        if not up:
            raise NotReady("no worker is up yet; try again in a few seconds")
        return up
