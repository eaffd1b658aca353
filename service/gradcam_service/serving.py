"""``gradcam serve``: opens the socket, then supervises a worker for each device and the API processes."""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import shutil
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import sleep, time
from typing import TYPE_CHECKING

from gradcam_service import logs
from gradcam_service.errors import BadSettings, ModelFailed
from gradcam_service.kinds import load_plugins
from gradcam_service.registry.listing import resolve
from gradcam_service.registry.repository import Entry, scan
from gradcam_service.settings import Settings, misspelt
from gradcam_service.worker.placement import devices, placements

if TYPE_CHECKING:  # its metrics want PROMETHEUS_MULTIPROC_DIR to be set when they are imported
    from gradcam_service.worker.supervisor import Child

log = logging.getLogger(__name__)

_ROOM = 16 << 20
"""Bytes; a process takes a few hundred thousand."""
_FOLDER = "gradcam-locked-"
"""What folders for sockets and metrics are called, before what tells them apart."""
_UNLOCKED = 60.0
"""Seconds since a folder was made or filled, before which it may be one that is just being locked."""


def serve(settings: Settings) -> None:
    """Run the service until a signal stops it.

    Raises:
        OSError: the address can't be listened on, there is no room for sockets and metrics, or GPUs can't be counted.
        BadSettings: others than this machine could reach it without a key, the file of keys can't be used, what
            traces or speaks gRPC is not installed, or there is no saying which model is the default one.
        ModelFailed: a model repository can't be read.
        UnknownModel: the default model is in none of them.
    """
    logs.configure(settings.log_level)
    for warning in misspelt(os.environ):
        log.warning(warning)
    default = _default(settings)
    with _own_folder(_roomy()) as folder, _listen(settings) as listening, shared_port(settings) as grpc_port:
        settings = settings.model_copy(update={"grpc_port": grpc_port})
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when prometheus_client is imported, so before all else
        # For 20 µs torch's idle threads wait for more, not for milliseconds, while ONNX Runtime wants their cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
        # NumPy's products are small here: a second thread that has to get a core first makes 0.6 ms of one 18.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        load_plugins(settings.plugins)  # which import what they like, metrics and torch among it
        check_access(listening, settings)
        _check_extras(settings)
        if settings.metrics_port is not None:
            from gradcam_service import metrics

            metrics.serve(settings.host, settings.metrics_port)
        from gradcam_service.worker.supervisor import Supervisor

        workers, servers = _children(settings, listening, folder)
        threading.Thread(target=_announce, args=(listening, settings, default), daemon=True).start()
        stopping = settings.notice_seconds + settings.drain_seconds
        Supervisor(workers, servers, stopping, on_stop=listening.close).run()


def _default(settings: Settings) -> Entry:
    """The default model.

    Raises:
        BadSettings, ModelFailed, UnknownModel: see `serve`.
    """
    listing = scan(settings.model_repository, settings.embedded)
    key = resolve(listing.models(), settings.default_among(entry.name for entry in listing)).key
    return next(entry for entry in listing if entry.key == key)


def _children(settings: Settings, listening: socket.socket, folder: str) -> tuple[list[Child], list[Child]]:
    """The workers, each with its socket in the folder, and the API processes, not started yet."""
    from gradcam_service.worker.heartbeat import Heartbeat
    from gradcam_service.worker.supervisor import Child

    present = devices(settings.device)
    settings = settings.for_devices(present)
    placed = placements(present)
    sockets = {one.name: f"ipc://{folder}/{one.name.replace(':', '-')}.sock" for one in placed}
    workers = [
        Child(
            f"worker {placement.name}",
            "gradcam_service.worker.main:main",
            (sockets[placement.name], placement, settings, heartbeat),
            placement.name,
            heartbeat,
        )
        for placement in placed
        for heartbeat in [Heartbeat()]
    ]
    servers = [
        Child(f"api {i}", "gradcam_service.api.server:main", (listening, sockets, settings))
        for i in range(settings.api_processes or 1)
    ]
    return workers, servers


def _roomy() -> str:
    """Where there is room for sockets and metrics: in memory if possible.

    Metrics are mapped into memory, and a process that writes to a page for which the disk has no room is killed.

    Raises:
        OSError: there is none.
    """
    places = [place for place in ("/dev/shm", tempfile.gettempdir()) if os.access(place, os.W_OK)]
    for place in places:
        if shutil.disk_usage(place).free > _ROOM:
            return place
    raise OSError(f"sockets and metrics need {_ROOM >> 20} MiB; there is less in {' and '.join(places)}")


@contextmanager
def _own_folder(place: str) -> Iterator[str]:
    """A folder there for sockets and metrics, locked while this process lives."""
    sweep(place)
    with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=place) as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(lock)


def sweep(place: str) -> None:
    """Remove the folders there of services that were killed, which could not do it themselves."""
    for folder in Path(place).glob(f"{_FOLDER}*"):
        with suppress(OSError):  # another user's, or gone meanwhile, or one that is locked
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time() - folder.stat().st_mtime > _UNLOCKED:
                    shutil.rmtree(folder)
            finally:
                os.close(lock)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    listening.set_inheritable(True)
    return listening


@contextmanager
def shared_port(settings: Settings) -> Iterator[int | None]:
    """The port for gRPC, kept for the API processes, each of which listens at it; None where there is none.

    The first socket sees to it that nobody else listens there, which sockets that share a port would not notice.
    """
    if settings.grpc_port is None:
        yield None
        return
    with _listen(settings.model_copy(update={"port": settings.grpc_port})) as first:
        address = first.getsockname()[:2]
    with socket.socket(first.family) as kept:  # bound and not listening, so that it is given no connections
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(kept, address)
        yield address[1]


def _bind(sock: socket.socket, address: tuple[str, int]) -> None:
    """Bind it where a socket was closed just now.

    A process that is being started holds that one, too, for the milliseconds until it runs its own program.
    """
    for pause in (0.01, 0.1, 1.0):
        with suppress(OSError):
            sock.bind(address)
            return
        sleep(pause)
    sock.bind(address)


def check_access(listening: socket.socket, settings: Settings) -> None:
    """Let nobody listen to the world by oversight.

    Raises:
        BadSettings: see `serve`.
    """
    if settings.api_keys is not None:
        from gradcam_service.api.keys import Keys

        Keys(settings.api_keys)
        return
    if os.environ.get("GRADCAM_API_KEY"):
        log.warning("GRADCAM_API_KEY is what callers send, and guards nothing; GRADCAM_API_KEYS names the file of keys")
    if not (ipaddress.ip_address(listening.getsockname()[0]).is_loopback or settings.allow_anonymous):
        raise BadSettings(
            f"anyone who reaches {settings.host} could use the service: set GRADCAM_API_KEYS to a file of keys, "
            "or GRADCAM_ALLOW_ANONYMOUS=true if that is wanted, or GRADCAM_HOST to 127.0.0.1"
        )


def _check_extras(settings: Settings) -> None:
    """Say at once, not in every process, that an extra is missing; empty variables are not set.

    Raises:
        BadSettings: see `serve`.
    """
    if settings.grpc_port is not None and find_spec("grpc") is None:
        raise BadSettings("GRADCAM_GRPC_PORT needs the extra grpc: pip install 'gradcam-service[grpc]'")
    if settings.tracing:
        for name in [name for name, value in os.environ.items() if name.startswith("OTEL_") and not value]:
            del os.environ[name]  # https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
        try:
            import gradcam_service.api.tracing  # noqa: F401
        except ImportError:
            raise BadSettings(
                "GRADCAM_TRACING needs the extra tracing: pip install 'gradcam-service[tracing]'"
            ) from None


def _announce(listening: socket.socket, settings: Settings, default: Entry) -> None:
    """Say where the service is, and what it answers with, as soon as it does."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{port}"
    key = "-H 'Authorization: Bearer YOUR-KEY' " if settings.api_keys else ""
    grpc = "" if settings.grpc_port is None else f"\n  gRPC, the Open Inference Protocol: {host}:{settings.grpc_port}\n"
    while not _is_ready(url):
        sleep(0.1)
    print(
        f"\n  gradcam-service is ready at {url}  (documentation: {url}/docs)\n"
        f"  The default model is {settings.default_model}{_described(default)}\n"
        "  Try it:\n\n"
        f"    curl -s {url}/docs/camera.jpg -o photo.jpg\n"
        f"    curl -s -H 'Accept: image/jpeg' {key}-F image=@photo.jpg {url}/explain -o map.jpg\n"
        f"{grpc}",
        flush=True,
    )


def _described(entry: Entry) -> str:
    try:
        description = entry.spec().description
    except ModelFailed:  # GET /models says why
        return ""
    return f": {' '.join(description.split())}" if description else ""


def _is_ready(url: str) -> bool:
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{url}/readyz", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:  # refused, timed out, or an HTTP error: urllib's are OSErrors all
        return False
