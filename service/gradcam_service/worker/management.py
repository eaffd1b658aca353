"""Management of a worker's models: API processes ask for it, and are told when it is done."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

from gradcam_service.errors import ModelFailed, ServiceError, UnknownModel
from gradcam_service.settings import Settings
from gradcam_service.worker.callers import Callers
from gradcam_service.worker.messages import Load, Managed, Rescan, Unload
from gradcam_service.worker.models import Models
from gradcam_service.worker.poller import RepositoryPoller, Snapshot

_Asked = tuple[bytes, int]
"""Who asked, and the id of the request."""


class Management:
    """Follows the repositories, has models loaded and unloaded, and tells those who wait for it.

    Args:
        models: what is managed.
        callers: who is told.
        settings: where the repositories are.
        wake: called from the poller's thread; then `changed` wants to be called.

    Attributes:
        poller: scans the repositories.
    """

    def __init__(self, models: Models, callers: Callers, settings: Settings, wake: Callable[[], None]) -> None:
        self._models = models
        self._callers = callers
        self._snapshots: SimpleQueue[tuple[Snapshot | ModelFailed, list[_Asked]]] = SimpleQueue()
        self._listed = False  # before that, nobody is told that there are no models
        self._loads: dict[_Asked, str] = {}  # which model each waits for

        def tell(found: Snapshot | ModelFailed, asked: list[_Asked]) -> None:
            self._snapshots.put((found, asked))
            wake()

        self.poller = RepositoryPoller(settings, tell)

    def load(self, caller: bytes, load: Load) -> None:
        """Have a model loaded."""
        try:
            under_way = self._models.load(load.model, load.again, load.whole)
        except (UnknownModel, ModelFailed) as error:
            self._callers.fail(caller, load.id, error)
            return
        if under_way:
            self._loads[caller, load.id] = load.model
            self.announce()
        else:
            self._callers.reply(caller, Managed(load.id))

    def cancel(self, caller: bytes, request_id: int) -> None:
        """Forget who waits for a model; it is loaded all the same."""
        self._loads.pop((caller, request_id), None)

    def forget(self, caller: bytes) -> None:
        """Forget what an API process waits for that is gone."""
        for asked in [asked for asked in self._loads if asked[0] == caller]:
            del self._loads[asked]

    def unload(self, caller: bytes, unload: Unload) -> None:
        """Have a model forgotten."""
        try:
            self._models.unload(unload.model)
        except UnknownModel as error:
            self._callers.fail(caller, unload.id, error)
            return
        self.announce()
        self._callers.reply(caller, Managed(unload.id))
        self._conclude_loads()

    def rescan(self, caller: bytes, rescan: Rescan) -> None:
        """Have the repositories scanned now."""
        self.poller.rescan((caller, rescan.id))

    def changed(self) -> None:
        """Something was loaded or the repositories have been scanned: tell everybody, then those who wait for it."""
        snapshots: list[tuple[Snapshot | ModelFailed, list[_Asked]]] = []
        while not self._snapshots.empty():
            snapshots.append(self._snapshots.get())
        for found, _ in snapshots:
            if isinstance(found, Snapshot):
                self._models.apply(found)
                self._listed = True
        if self._listed:
            self._models.collect()
        self.announce()
        for found, asked in snapshots:
            for caller, request_id in asked:
                self._conclude(caller, request_id, found if isinstance(found, ModelFailed) else None)
        self._conclude_loads()

    def announce(self) -> None:
        """Tell all API processes the state of every model."""
        if self._listed:
            self._callers.announce(self._models.status(), self._models.started)

    def _conclude_loads(self) -> None:
        for asked, key in [loads for loads in self._loads.items() if not self._models.is_loading(loads[1])]:
            if self._loads.pop(asked, None):  # else its caller has been found to be gone
                failure = self._models.failure(key)
                self._conclude(*asked, ModelFailed(f"model {key} can't be loaded: {failure}") if failure else None)

    def _conclude(self, caller: bytes, request_id: int, error: ServiceError | None) -> None:
        if error is None:
            self._callers.reply(caller, Managed(request_id))
        else:
            self._callers.fail(caller, request_id, error)
