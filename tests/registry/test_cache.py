"""What was fetched is kept up to a size, never in half, and never deleted from under who uses it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gradcam_service.registry import cache

HOLD = """
import sys
from gradcam_service.registry import cache
with cache.holding() as leases:
    cache.cached("models", sys.argv[1], lambda folder: (folder / "file").write_bytes(bytes(100)))
    print("held", flush=True)
    sys.stdin.read()
"""
HALF = """
import os, signal
from gradcam_service.registry import cache
def fill(folder):
    (folder / "file").write_bytes(bytes(50))
    os.kill(os.getpid(), signal.SIGKILL)
cache.cached("models", "half", fill)
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gradcam"


def put(name: str, age: int = 0, size: int = 100) -> Path:
    """An item of one file, last used so many seconds ago."""
    path = cache.cached("models", name, lambda folder: (folder / "file").write_bytes(bytes(size)) and None)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def names(root: Path) -> set[str]:
    return {path.name for path in root.glob("*/*")}


def test_an_item_is_filled_once(root: Path):
    filled: list[Path] = []
    first = cache.cached("weights", "w", filled.append)
    assert cache.cached("weights", "w", filled.append) == first == root / "weights" / "w"
    assert len(filled) == 1


def test_what_can_not_be_filled_leaves_nothing_behind(root: Path):
    def fail(folder: Path) -> None:
        (folder / "file").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        cache.cached("weights", "w", fail)
    assert names(root) == set()


def test_what_was_used_longest_ago_goes_until_the_rest_fits(root: Path):
    for name, age in (("old", 50), ("older", 70), ("new", 10), ("oldest", 90)):
        put(name, age)
    cache.prune(400)
    assert len(names(root)) == 4
    cached = cache.cached("models", "oldest", lambda _: None)  # used again
    assert (cached / "file").stat().st_size == 100
    cache.prune(299)
    assert names(root) == {"oldest", "new"}
    cache.prune(0)  # no bound
    assert names(root) == {"oldest", "new"}
    cache.prune(1)
    assert names(root) == set()


def test_what_is_held_stays_until_it_is_let_go(root: Path):
    with cache.holding() as leases:
        put("held", age=50)
    put("new")
    cache.prune(1)
    assert names(root) == {"held"}
    leases.clear()
    gc.collect()
    cache.prune(1)
    assert names(root) == set()


def test_what_another_process_holds_stays_until_that_dies(root: Path):
    put("theirs", age=50)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, "theirs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    cache.prune(1)
    assert names(root) == {"theirs"}
    other.kill()
    other.wait()
    cache.prune(1)
    assert names(root) == set()


def test_what_a_process_that_died_left_is_never_seen_and_goes(root: Path):
    died = subprocess.run([sys.executable, "-c", HALF], check=False)
    assert died.returncode == -signal.SIGKILL
    (left,) = names(root)
    assert left.startswith(".")
    path = put("half")
    assert (path / "file").stat().st_size == 100
    cache.prune(0)
    assert names(root) == {"half"}


def test_an_item_that_is_wrong_is_replaced_while_others_hold_it(root: Path):
    with cache.holding() as leases:
        put("w", size=3)
    cache.discard(root / "models" / "w")
    assert names(root) == set()
    assert (put("w", size=5) / "file").stat().st_size == 5
    assert leases
