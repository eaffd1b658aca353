"""The repository poller: when it rescans, and who is told."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry, Listing, scan
from gradcam_service.settings import Settings
from gradcam_service.worker import poller
from gradcam_service.worker.poller import RepositoryPoller, Snapshot
from live import PATIENCE

Told = SimpleQueue[tuple[Snapshot | ModelFailed, list[str]]]


class SlowDisk:
    """Has each scan of the repositories wait until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def scan(self, repositories: tuple[str, ...], embedded: bool) -> Listing:
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        return scan(repositories, embedded)


def test_who_asks_during_a_scan_is_told_of_the_next_one(monkeypatch: pytest.MonkeyPatch):
    disk, told = SlowDisk(), Told()
    monkeypatch.setattr(poller, "scan", disk.scan)
    polling = RepositoryPoller[str](Settings(poll_seconds=0), lambda found, asked: told.put((found, asked)))
    polling.start()
    assert disk.begun.acquire(timeout=PATIENCE)
    for caller in ("one", "other"):  # while the scan that the start asked for is under way
        polling.rescan(caller)
    disk.go.release()
    assert told.get(timeout=PATIENCE)[1] == []
    assert disk.begun.acquire(timeout=PATIENCE)
    disk.go.release()
    assert told.get(timeout=PATIENCE)[1] == ["one", "other"]  # one scan for both
    assert not disk.begun.acquire(timeout=0.1)


def test_a_scan_that_fails_in_an_unforeseen_way_is_told_and_not_the_last(monkeypatch: pytest.MonkeyPatch):
    told, outcomes = Told(), iter([OSError("the disk is on fire"), Listing()])

    def scan_once(repositories: tuple[str, ...], embedded: bool) -> Listing:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    monkeypatch.setattr(poller, "scan", scan_once)
    polling = RepositoryPoller[str](Settings(poll_seconds=0), lambda found, asked: told.put((found, asked)))
    polling.rescan("one")
    polling.start()
    found, asked = told.get(timeout=PATIENCE)
    assert isinstance(found, ModelFailed)
    assert "the disk is on fire" in found.detail
    assert asked == ["one"]
    polling.rescan("other")
    assert told.get(timeout=PATIENCE) == (Snapshot(Listing(), default="imagenet"), ["other"])


@pytest.mark.parametrize(
    ("default", "at_start"),
    [("a", ["10"]), ("a@2", ["2"]), ("a@best", ["9"]), ("a@9", ["9"]), ("a@attic", []), ("b", []), ("", [])],
)
def test_of_the_versions_on_demand_the_default_one_alone_is_loaded_at_the_start(default: str, at_start: list[str]):
    entries = tuple(Entry("a", version, LocalPlace(Path("a", version))) for version in ("9", "10", "2"))
    on_demand = frozenset(entry.key for entry in entries)
    snapshot = Snapshot(Listing(entries, {"a": {"best": "9", "9": "10"}}), on_demand, default)
    assert [entry.version for entry in entries if not snapshot.loads_on_demand(entry)] == at_start


def test_a_file_that_is_passed_over_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    told = Told()
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "model.yaml").touch()
    polling = RepositoryPoller[str](
        Settings(model_repository=(str(tmp_path),), poll_seconds=0), lambda found, asked: told.put((found, asked))
    )
    polling.start()
    told.get(timeout=PATIENCE)
    polling.rescan("one")
    told.get(timeout=PATIENCE)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "move it to birds/1/model.yaml" in record.fields["reason"]  # type: ignore[attr-defined]
