"""What a model.yaml names is read in the model's own folder alone, whatever way a path takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from gradcam_service.errors import ModelFailed
from gradcam_service.local import open_model
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry, scan
from gradcam_service.registry.spec import Spec
from gradcam_service.settings import Settings
from gradcam_service.zoo.network import scenes_network

LABELS = "\n".join("abcdefghijkl")
SPEC = "source: zoo\narchitecture: scenes\npreprocess: {pad: 64, mean: [0, 0, 0], std: [1, 1, 1]}\n"
PLAIN = {"weights": "random:0", "labels": "labels.txt"}


def loaded(folder: Path, **more: str) -> object:
    lines = [f"{name}: {value}\n" for name, value in (PLAIN | more).items()]
    (folder / "model.yaml").write_text(SPEC + "".join(lines))
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, beside files that are none of its business and links in it that lead to them."""
    (tmp_path / "secret.txt").write_text(LABELS)
    torch.save(scenes_network().state_dict(), tmp_path / "secret.pt")
    folder = tmp_path / "mine" / "1"
    folder.mkdir(parents=True)
    (folder / "labels.txt").write_text(LABELS)
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "link.pt").symlink_to("../../secret.pt")
    (folder / "up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    "path",
    ["{root}/secret.txt", "../../secret.txt", "link.txt", "up/../secret.txt", "/etc/passwd", "/proc/self/environ"],
)
@pytest.mark.parametrize("member", ["labels", "weights", "sample"])
def test_a_file_elsewhere_is_never_read(folder: Path, tmp_path: Path, member: str, path: str):
    named = path.format(root=tmp_path)
    more = {"sample": f"{{image: {named}, label: a}}"} if member == "sample" else {member: named}
    with pytest.raises(ModelFailed, match=r"leads out of .* only files in that folder are read"):
        loaded(folder, **more)


def test_weights_elsewhere_are_never_read_by_a_source_whose_file_is_the_model(folder: Path):
    for source in ("onnx", "pt2"):
        text = f"source: {source}\nweights: link.pt\npreprocess: {{pad: 64, mean: [0, 0, 0], std: [1, 1, 1]}}\n"
        (folder / "model.yaml").write_text(text)
        with pytest.raises(ModelFailed, match="leads out of"):
            load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


@pytest.mark.parametrize(
    ("path", "says"),
    [("pipe", "is no file"), (".", "is no file"), ("circle", "is no path"), ("x" * 300, "is no path")],
)
def test_what_is_no_file_is_told_of_in_one_line(folder: Path, path: str, says: str):
    with pytest.raises(ModelFailed, match=says) as caught:
        loaded(folder, labels=path)
    assert "\n" not in caught.value.detail


def test_a_path_with_a_nul_is_none(folder: Path):
    spec = Spec(source="zoo", architecture="scenes", weights="random:0", labels="a\0b")
    with pytest.raises(ModelFailed, match="is no path"):
        ModelFolder(spec, folder).labels()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_labels_are_the_same_however_an_editor_has_written_them(tmp_path: Path, encoding: str, end: str):
    lines = ["Käfer ", "\tice cream", "star", "", " "]
    (tmp_path / "labels.txt").write_bytes(end.join(lines).encode(encoding))
    spec = Spec(source="zoo", architecture="scenes", weights="random:0", labels="labels.txt")
    assert ModelFolder(spec, tmp_path).labels() == ["Käfer", "ice cream", "star"]


def test_an_empty_label_before_others_is_one(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("\na\n\nb\n")
    spec = Spec(source="zoo", architecture="scenes", weights="random:0", labels="labels.txt")
    assert ModelFolder(spec, tmp_path).labels() == ["", "a", "", "b"]


def test_files_in_folders_of_the_folder_are_read(folder: Path):
    (folder / "words").mkdir()
    (folder / "labels.txt").rename(folder / "words" / "labels.txt")
    assert loaded(folder, labels="words/labels.txt").card.labels == list("abcdefghijkl")  # type: ignore[attr-defined]
    assert loaded(folder, labels="words/../words/labels.txt")


def test_a_volume_of_kubernetes_is_links_within_the_folder(folder: Path):
    data = folder / "..2026_01_01"
    data.mkdir()
    (folder / "labels.txt").rename(data / "labels.txt")
    (folder / "..data").symlink_to(data.name)
    (folder / "labels.txt").symlink_to("..data/labels.txt")
    assert loaded(folder).card.labels == list("abcdefghijkl")  # type: ignore[attr-defined]


def test_a_model_yaml_or_aliases_that_lead_elsewhere_are_not_read(folder: Path, tmp_path: Path):
    (tmp_path / "secret.yaml").write_text("password: hunter2\n")
    (folder / "model.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(ModelFailed, match=r"model\.yaml leads out of") as caught:
        Entry("mine", "1", LocalPlace(folder)).spec()
    assert "password" not in caught.value.detail
    (folder.parent / "aliases.yaml").symlink_to(tmp_path / "secret.yaml")
    (said,) = scan([folder.parent.parent]).unusable.values()
    assert "aliases.yaml leads out of" in said
    assert "password" not in said


def test_a_version_that_has_gone_since_it_was_loaded_is_named(tmp_path: Path):
    (tmp_path / "mine" / "1").mkdir(parents=True)
    loaded(tmp_path / "mine" / "1", labels=f"[{', '.join(LABELS.splitlines())}]")
    local = open_model("mine", Settings(model_repository=str(tmp_path), embedded=False, device="cpu"))
    assert local.folder().path == tmp_path / "mine" / "1"
    (tmp_path / "mine" / "1" / "model.yaml").unlink()
    with pytest.raises(ModelFailed, match="mine@1 is not in the repository any more"):
        local.folder()
