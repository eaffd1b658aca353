"""A server on a socket that does as it is told, connection by connection and request by request."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.client import parse_headers

MODELS = b'{"default": "scenes", "models": []}'


@dataclass(frozen=True)
class Says:
    """A response: status, headers, body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


FINE = Says(200, body=MODELS)
HANGS_UP = "hangs up without a word"
HANGS_UP_WITHIN = "hangs up within its answer"
KEEPS_SILENT = "keeps silent"
TRICKLES = "answers a byte at a time"


def busy(status: int = 429, retry_after: str | None = None) -> Says:
    """A problem document as the service writes it."""
    body = {"type": "about:blank", "title": "Queue full", "status": status, "code": "queue_full"}
    body |= {"detail": "the queue is full", "request_id": "abc"}
    return Says(status, {"Retry-After": retry_after} if retry_after else {}, json.dumps(body).encode())


@dataclass(frozen=True)
class Received:
    """A request: when it arrived (`time.monotonic`), its path, its headers, its body."""

    at: float
    path: str
    headers: Message
    body: bytes


@dataclass
class Scripted:
    """The server as its test sees it.

    Attributes:
        url: where it listens.
        connections: how many were accepted.
        requests: each one, as it arrived.
    """

    url: str
    connections: int = 0
    requests: list[Received] = field(default_factory=list)


@contextmanager
def scripted(script: Sequence[Says | str]) -> Iterator[Scripted]:
    """While the block runs, a server that answers the requests as the script says, one after the other."""
    seen, done, turns = Scripted(""), threading.Event(), iter(script)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            seen.connections += 1
            while line := self.rfile.readline():
                headers = parse_headers(self.rfile)
                body = self.rfile.read(int(headers.get("Content-Length", 0)))
                seen.requests.append(Received(time.monotonic(), line.decode().split()[1], headers, body))
                if not self.answer(next(turns)):
                    return

        def answer(self, said: Says | str) -> bool:
            if isinstance(said, Says):
                head = {"Content-Length": str(len(said.body)), **said.headers}
                lines = [f"HTTP/1.1 {said.status} X", *(f"{name}: {value}" for name, value in head.items()), "", ""]
                self.wfile.write("\r\n".join(lines).encode() + said.body)
            elif said == KEEPS_SILENT:
                done.wait()
            elif said in (HANGS_UP_WITHIN, TRICKLES):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{")
                while said == TRICKLES and not done.wait(0.01):
                    self.wfile.write(b" ")
            return isinstance(said, Says)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hung up is no trouble."""

    with Server(("127.0.0.1", 0), Handler) as server:
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            server.shutdown()
            thread.join()
