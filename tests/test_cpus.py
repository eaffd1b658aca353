"""Processors are counted as they may be used, not as they are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradcam_service.cpus import usable
from gradcam_service.runtime import _threads
from gradcam_service.settings import Settings


def groups(folder: Path, **limits: str) -> tuple[Path, Path]:
    """Control groups kubepods/pod around this process, with the `cpu.max` of each that is named."""
    places = {"root": folder, "kubepods": folder / "kubepods", "pod": folder / "kubepods" / "pod"}
    places["pod"].mkdir(parents=True)
    for name, limit in limits.items():
        (places[name] / "cpu.max").write_text(limit + "\n")
    own = folder / "own"
    own.write_text("1:cpu:/elsewhere\n0::/kubepods/pod\n")
    return folder, own


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 64),
        ({"pod": "max 100000", "kubepods": "max 100000"}, 64),
        ({"pod": "200000 100000", "kubepods": "max 100000"}, 2),
        ({"pod": "max 100000", "kubepods": "300000 100000"}, 3),
        ({"pod": "150000 100000"}, 2),
        ({"pod": "5000 100000"}, 1),
        ({"pod": "12800000 100000"}, 64),
        ({"root": "400000 100000"}, 4),
        ({"pod": "rubbish"}, 64),
    ],
)
def test_a_pod_on_a_node_of_64_starts_what_its_quota_pays_for(monkeypatch, tmp_path, limits, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    assert usable(*groups(tmp_path, **limits)) == expected


def test_without_control_groups_affinity_decides(tmp_path):
    own = "import os, pathlib; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code = own + "from gradcam_service.cpus import usable; print(usable(own=pathlib.Path('/nowhere')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_setting_overrides_what_is_found(monkeypatch):
    monkeypatch.setattr("gradcam_service.settings.usable", lambda: 6)
    assert (Settings().threads, Settings(cpus=3).threads) == (6, 3)


def test_torch_computes_with_as_many_threads(monkeypatch):
    threads = torch.get_num_threads()
    try:
        monkeypatch.setattr("gradcam_service.runtime._threads.usable", lambda: 1)
        _threads.limit(None)
        assert torch.get_num_threads() == 1
        _threads.limit(3)
        assert torch.get_num_threads() == 3
        for workers, each in ((2, 4), (3, 2), (9, 1)):
            _threads.limit(8, workers)
            assert torch.get_num_threads() == each
    finally:
        torch.set_num_threads(threads)


def test_nobody_waits_for_torch_that_another_thread_imports(tmp_path):
    (tmp_path / "torch.py").write_text(
        "import builtins\nbuiltins.begun.set()\nassert builtins.asked.wait(60)\n"
        "get_num_threads = lambda: 7\nset_num_threads = lambda count: print('told', count)\n"
    )
    code = """
import builtins, threading
from gradcam_service.runtime import _threads
builtins.begun, builtins.asked = threading.Event(), threading.Event()
importing = threading.Thread(target=lambda: __import__("torch"))
importing.start()
assert builtins.begun.wait(60)
_threads.choose(3)
print(_threads.computing())
builtins.asked.set()
importing.join()
_threads.tell_torch()
print(_threads.computing())
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split("\n") == ["3", "told 3", "7", ""]
