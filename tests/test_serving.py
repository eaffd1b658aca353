"""How the service starts: isolated from its caller's Python, and without waiting for what is dead."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from gradcam_service import serving
from gradcam_service.errors import BadSettings
from gradcam_service.serving import check_access, shared_port, sweep
from gradcam_service.settings import Settings
from live import GRADCAM, Service, running_eagerly, until
from repository import ROOT

SHADOWED = ("click", "msgspec", "prometheus_client", "service", "sitecustomize", "torch", "uvicorn", "zmq")


@pytest.fixture
def shadows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PYTHONPATH on which lie namesakes of what the service imports."""
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("shadows")
def test_processes_of_make_serve_heed_no_pythonpath_and_none_outlives_a_killed_supervisor(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("PORT", "0")
    told = subprocess.run(["make", "--dry-run", "serve"], cwd=ROOT, capture_output=True, text=True, check=True)
    _, interpreter, *arguments = shlex.split(told.stdout.splitlines()[-1])
    assert interpreter == ".venv/bin/python"
    with running_eagerly(sys.executable, *arguments) as service:
        scene = service.client.get("/docs/scene.jpg").content
        assert service.client.post("/explain", files={"image": scene}).status_code == 200
        assert service.client.get("/metrics").status_code == 200
        children = [*service.pids("worker"), *service.pids("api 0")]
        assert len(children) == 2
        service.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


@pytest.mark.parametrize("index", ["", "https://download.pytorch.org/whl/cpu"])
def test_make_takes_pytorch_from_the_index_that_it_is_told(index: str):
    command = ["make", "--dry-run", "--always-make", "serve", f"TORCH_INDEX={index}"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installed = [line for line in told.splitlines() if "pip install" in line]
    first = f".venv/bin/pip install --disable-pip-version-check --no-deps -c constraints.txt --index-url {index}"
    assert installed[:-1] == ([f"{first} torch torchvision"] if index else [])
    assert installed[-1].endswith("-c constraints.txt -e .")


@pytest.mark.usefixtures("shadows")
def test_the_command_heeds_no_pythonpath(tmp_path: Path):
    (tmp_path / "sitecustomize.py").unlink()  # which its first interpreter runs before it does anything
    done = subprocess.run([GRADCAM, "models"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "scenes@1" in done.stdout


def test_what_a_killed_service_left_is_swept_away_and_what_another_uses_is_not(tmp_path: Path, service: Service):
    maps = psutil.Process(service.pids("worker")[-1]).memory_maps()
    (used,) = {Path(one.path).parent for one in maps if one.path.endswith(".db")}
    files = set(used.iterdir())
    for name, age in (
        ("gradcam-locked-left", 3600),
        ("gradcam-locked-just-now", 0),
        ("gradcam-of-an-older-version", 3600),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "counter_api 0.db").write_bytes(bytes(10))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    made = used.stat()
    os.utime(used, (made.st_atime, made.st_mtime - 3600))
    sweep(str(tmp_path))
    sweep(str(used.parent))
    assert {path.name for path in tmp_path.iterdir()} == {"gradcam-locked-just-now", "gradcam-of-an-older-version"}
    assert files <= set(used.iterdir())


@pytest.mark.parametrize("key", ["", "abc"])
def test_the_key_of_callers_is_said_to_guard_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
):
    monkeypatch.setenv("GRADCAM_API_KEY", key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        check_access(listening, Settings(api_keys=None))
    said = "GRADCAM_API_KEY is what callers send, and guards nothing; GRADCAM_API_KEYS names the file of keys"
    assert caplog.messages == ([said] if key else [])


def test_the_port_of_grpc_is_for_the_processes_of_one_service():
    with shared_port(Settings(grpc_port=0)) as port:
        with socket.socket() as one, socket.socket() as other:
            for process in (one, other):
                process.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                process.bind(("127.0.0.1", port))
                process.listen()
            socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError, match="Address already in use"), shared_port(Settings(grpc_port=port)):
            pass
    with shared_port(Settings(grpc_port=port)) as again, shared_port(Settings()) as none:
        assert (again, none) == (port, None)


def test_a_port_is_waited_for_that_a_process_holds_which_is_being_started():
    with socket.create_server(("127.0.0.1", 0)) as held, socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = held.getsockname()
        with pytest.raises(OSError, match="Address already in use"):
            serving._bind(kept, address)
        threading.Timer(0.05, held.close).start()
        serving._bind(kept, address)
        assert kept.getsockname() == address


def test_grpc_needs_its_extra(monkeypatch):
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(BadSettings, match=r"GRADCAM_GRPC_PORT needs the extra grpc"):
        serving._check_extras(Settings(grpc_port=0))
