"""The API processes that a worker serves: what they ask, and what they are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
import zmq

from gradcam_service.errors import ServiceError
from gradcam_service.registry.listing import Model
from gradcam_service.worker.messages import Failed, Reply, Request, Status, decode_request, encode

log = logging.getLogger(__name__)


class Callers:
    """The worker's end of every `gradcam_service.worker.link.WorkerLink`.

    Args:
        address: ZeroMQ address to bind.
        gone: called with the identity of an API process that isn't there any more, found when it was to be told
            something. Each that greets has all be told something, so no more are remembered than have greeted since.

    Attributes:
        socket: to be polled for requests.
    """

    def __init__(self, address: str, gone: Callable[[bytes], None]) -> None:
        self._gone = gone
        self._sessions: dict[bytes, int] = {}
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # says which callers are gone
        self.socket.set_hwm(0)  # the API's permits bound what is under way; nothing may be dropped here
        self.socket.bind(address)

    def __len__(self) -> int:
        return len(self._sessions)

    def requests(self) -> Iterator[tuple[bytes, Request, Sequence[zmq.Frame]]]:
        """Everything that has arrived: who asks, what, and the frames that came with it."""
        while self.socket.poll(0):
            caller, header, *frames = self.socket.recv_multipart(copy=False)
            try:
                request = decode_request(header.buffer)
            except msgspec.DecodeError as error:
                log.error("caller can't be understood", extra={"fields": {"reason": str(error)}})
            else:
                yield caller.bytes, request, frames

    def greeted(self, caller: bytes, session: int) -> None:
        """Remember an API process that wants to be told the worker's status."""
        self._sessions[caller] = session

    def announce(self, models: list[Model], started: bool) -> None:
        """Tell all who have greeted the status of every model."""
        for caller, session in list(self._sessions.items()):
            self.reply(caller, Status(session, models, started))

    def fail(self, caller: bytes, request_id: int, error: ServiceError) -> None:
        """Answer a request with an error."""
        self.reply(caller, Failed(request_id, error.code, error.detail))

    def reply(self, caller: bytes, reply: Reply, *frames: np.ndarray) -> None:
        """Answer an API process, if it is still there."""
        try:
            self.socket.send_multipart([caller, encode(reply), *(frame.data for frame in frames)])
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._sessions.pop(caller, None)
            self._gone(caller)
