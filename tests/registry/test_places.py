"""Repositories at URLs: listed, fetched once, kept by what they are; on a real S3 server, and on what is not there."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch

from gradcam_service.errors import ModelFailed
from gradcam_service.registry import places
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace, place_at
from gradcam_service.registry.repository import EMBEDDED, Entry, scan
from gradcam_service.registry.weights import fetch
from repository import EMBEDDED_KEYS
from s3 import Store, pointed_at, store

SCENES = EMBEDDED / "scenes" / "1"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gradcam" / "models"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(s3: Store, request: pytest.FixtureRequest) -> str:
    """An empty bucket of the test's own, as a URL."""
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    fsspec.filesystem("s3").mkdir(f"s3://{name}")
    return f"s3://{name}"


def publish(url: str, version: str = "1", **changes: str) -> None:
    """The embedded model at a URL, with some lines of its model.yaml changed."""
    system, root = fsspec.url_to_fs(url)
    for file in ("labels.txt", "weights.safetensors"):
        system.pipe_file(f"{root}/mine/{version}/{file}", (SCENES / file).read_bytes())
    lines = dict(line.split(": ", 1) for line in (SCENES / "model.yaml").read_text().splitlines()) | changes
    text = "".join(f"{name}: {value}\n" for name, value in lines.items())
    system.pipe_file(f"{root}/mine/{version}/model.yaml", text.encode())


def entry_of(url: str, key: str = "mine@1") -> Entry:
    return next(entry for entry in scan([url]) if entry.key == key)


def test_a_model_in_a_bucket_is_the_model(bucket: str, cache: Path):
    publish(f"{bucket}/models")
    fsspec.filesystem("s3").pipe_file(f"{bucket}/models/mine/aliases.yaml", b"stable: 1\n")
    listing = scan([f"{bucket}/models"])
    assert {model.key: model.aliases for model in listing.models()}["mine@1"] == ["stable"]
    loaded = load(entry_of(f"{bucket}/models"), CPU)
    embedded = load(Entry("scenes", "1", LocalPlace(SCENES)), CPU)
    assert loaded.card == embedded.card
    assert len(list(cache.iterdir())) == 1


def test_files_are_fetched_once_until_they_change(bucket: str, cache: Path):
    publish(bucket)
    first = entry_of(bucket)
    folder = first.folder()
    (folder / "labels.txt").write_text("kept")  # to see that it is not fetched again
    assert entry_of(bucket) == first
    assert entry_of(bucket).folder() == folder
    assert (folder / "labels.txt").read_text() == "kept"
    publish(bucket, batch="4")
    changed = entry_of(bucket)
    assert changed != first
    assert changed.spec().batch == 4
    assert changed.folder() != folder
    assert (changed.folder() / "labels.txt").read_bytes() == (SCENES / "labels.txt").read_bytes()
    assert len(list(cache.iterdir())) == 2


def test_weights_in_a_bucket_are_checked(bucket: str, tmp_path: Path):
    content = (SCENES / "weights.safetensors").read_bytes()
    url = f"{bucket}/weights.safetensors"
    fsspec.filesystem("s3").pipe_file(url, content)
    assert fetch(url, hashlib.sha256(content).hexdigest()).read_bytes() == content
    with pytest.raises(ModelFailed, match="have SHA-256"):
        fetch(url, "0" * 64)
    with pytest.raises(ModelFailed, match="can't be fetched from s3://"):
        fetch(f"{bucket}/nowhere.safetensors", "0" * 64)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://there-is-no-such-bucket/models", "s3://there-is-no-such-bucket/models can't be read"),
        ("memory://nothing", "memory://nothing can't be read"),
        ("spaceship://models", "spaceship://models can't be read: .*spaceship"),
    ],
)
def test_a_url_that_holds_nothing_is_refused_in_one_line(s3: Store, url: str, says: str):
    with pytest.raises(ModelFailed, match=says) as caught:
        scan([url])
    assert "\n" not in caught.value.detail


def test_a_store_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And not after the seven minutes that two layers of retries take."""
    monkeypatch.setattr(places, "_PATIENCE", 1.0)
    with store(tmp_path) as silent:
        fsspec.filesystem("s3").mkdir("s3://models")
        silent.stall()
        for ask in (place_at("s3://models").stamps, lambda: place_at("s3://models/mine").text("aliases.yaml")):
            with pytest.raises(ModelFailed, match="can't be read: no complete answer in time"):
                ask()


class _Silent(BaseHTTPRequestHandler):
    """Answers with the beginning of a file, and then no more."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"source: ")
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def test_a_store_that_falls_silent_within_a_file_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """By its client's own retries; nothing else bounds a download."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.1}})
    with ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pointed_at(f"http://127.0.0.1:{server.server_port}"):
            with pytest.raises(ModelFailed, match="s3://models/mine can't be read: no complete answer in time"):
                place_at("s3://models/mine").local([("model.yaml", "")])
            with pytest.raises(ModelFailed, match=r"weights can't be fetched from s3://models/weights\.pth: .+"):
                fetch("s3://models/weights.pth", "0" * 64)
        server.shutdown()


def test_other_file_systems_work_alike():
    publish("memory://shelf")
    assert {entry.key for entry in scan(["memory://shelf"])} == {"mine@1"} | EMBEDDED_KEYS
    assert entry_of("memory://shelf").spec().architecture == "scenes"


def test_a_repository_writes_nowhere_but_into_its_own_folder(tmp_path: Path, cache: Path):
    """A bucket's keys are not paths: behind an empty part, all else would be one from the root of the disk."""
    aim, url = tmp_path / "aim", "memory://evil"
    publish(url)
    system, root = fsspec.url_to_fs(url)
    good = set(dict(entry_of(url).stamps))
    for key in (str(aim), "//more", "../../../../aim", "a/../../../../../aim"):
        system.pipe_file(f"{root}/mine/1/{key}", b"boo")
    entry = entry_of(url)
    assert set(dict(entry.stamps)) == good
    assert set(dict(entry.stamps)) == {path.name for path in entry.folder().iterdir()}
    for name in (str(aim), "../../../../aim"):
        with pytest.raises(ModelFailed, match="leads out of"):
            entry.place.local([(name, "")])
    assert not aim.exists()
    assert len(list(cache.iterdir())) == 1


def test_links_are_followed_and_hidden_files_are_not_models(tmp_path: Path):
    """As in a volume of Kubernetes, where everything is a link into a hidden folder."""
    data = tmp_path / "models" / "..2026" / "mine" / "1"
    data.mkdir(parents=True)
    (data / "model.yaml").write_text("source: torchvision\narchitecture: resnet18\nweights: random:0\n")
    (tmp_path / "models" / "..data").symlink_to("..2026")
    (tmp_path / "models" / "mine").symlink_to("..data/mine")
    assert {entry.key for entry in scan([tmp_path / "models"])} == {"mine@1"} | EMBEDDED_KEYS


def test_only_regular_files_are_listed(tmp_path: Path):
    """Whoever reads a pipe waits until somebody writes."""
    (tmp_path / "mine" / "1").mkdir(parents=True)
    os.mkfifo(tmp_path / "mine" / "aliases.yaml")
    os.mkfifo(tmp_path / "mine" / "1" / "model.yaml")
    (tmp_path / "mine" / "1" / "labels.txt").symlink_to("nowhere")
    assert LocalPlace(tmp_path).stamps() == []


def test_links_in_a_circle_are_walked_once(tmp_path: Path):
    for name in ("mine", "yours"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.yaml").touch()
    (tmp_path / "mine" / "latest").symlink_to("1")
    (tmp_path / "mine" / "1" / "up").symlink_to(tmp_path)
    (tmp_path / "mine" / "1" / "theirs").symlink_to(tmp_path / "yours")
    (tmp_path / "yours" / "ours").symlink_to(tmp_path / "mine")
    listed = set(dict(LocalPlace(tmp_path).stamps()))
    assert {"mine/1/model.yaml", "mine/latest/model.yaml", "yours/1/model.yaml"} <= listed
    assert max(path.count("/") for path in listed) == 4  # mine/latest/theirs/1/model.yaml


def test_an_entry_changes_with_every_file_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "mine" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("source: torchvision\narchitecture: resnet18\nweights: w.safetensors\n")
    safetensors.torch.save_file({"a": torch.zeros(3)}, folder / "w.safetensors")
    before = entry_of(str(tmp_path))
    assert entry_of(str(tmp_path)) == before
    (tmp_path / "mine" / "aliases.yaml").write_text("stable: 1\n")
    assert entry_of(str(tmp_path)) == before
    known = (folder / "w.safetensors").stat()
    safetensors.torch.save_file({"a": torch.ones(3)}, folder / "w.safetensors")
    os.utime(folder / "w.safetensors", ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    assert entry_of(str(tmp_path)) != before


def test_paths_and_urls_are_told_apart(tmp_path: Path):
    assert place_at(tmp_path) == LocalPlace(tmp_path)
    assert str(place_at("s3://bucket/models/") / "mine") == "s3://bucket/models/mine"
