"""Repositories on disk: which models there are, and who owns a name."""

import os

import pytest

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.repository import EMBEDDED, scan
from repository import EMBEDDED_KEYS

SPEC = "source: torchvision\narchitecture: {}\nweights: random:0\n"


def put(root, name, version, architecture="resnet18", aliases=None):
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(SPEC.format(architecture))
    if aliases is not None:
        (root / name / "aliases.yaml").write_text(aliases)
    return folder


def keys(*repositories):
    return {entry.key for entry in scan(repositories)}


def test_the_embedded_models_are_always_there():
    assert keys() == EMBEDDED_KEYS
    assert {entry.folder().parent.parent for entry in scan([])} == {EMBEDDED}
    architectures = ["easy_vqa", "tf_efficientnet_lite0", "policy", "scenes_captions", "scenes"]
    assert [entry.spec().architecture for entry in scan([])] == architectures


def test_every_version_of_every_model_is_found(tmp_path):
    for name, version in (("cats", "1"), ("cats", "2"), ("cats", "10"), ("dogs", "nightly")):
        put(tmp_path, name, version)
    assert keys(tmp_path) == EMBEDDED_KEYS | {"cats@1", "cats@2", "cats@10", "dogs@nightly"}


def test_the_first_repository_with_a_name_owns_all_its_versions(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    mine = put(first, "cats", "1", "alexnet")
    put(second, "cats", "1", "vgg11")
    put(second, "cats", "2", "vgg11")
    theirs = put(second, "dogs", "1", "vgg13")
    found = {entry.key: entry for entry in scan([first, second])}
    assert set(found) == EMBEDDED_KEYS | {"cats@1", "dogs@1"}
    assert (found["cats@1"].folder(), found["cats@1"].spec().architecture) == (mine, "alexnet")
    assert found["dogs@1"].folder() == theirs
    assert keys(second, first) == EMBEDDED_KEYS | {"cats@1", "cats@2", "dogs@1"}


def test_an_operators_model_goes_before_the_embedded_one_of_its_name(tmp_path):
    put(tmp_path, "scenes", "7")
    put(tmp_path, "zebras", "1")
    assert keys(tmp_path) == EMBEDDED_KEYS - {"scenes@1"} | {"scenes@7", "zebras@1"}


def test_aliases_belong_to_their_versions(tmp_path):
    put(tmp_path, "cats", "1")
    put(tmp_path, "cats", "2", aliases="stable: 1\nproduction: '1'\nnext: 2\ngone: 3\n")
    put(tmp_path, "dogs", "1")
    found = {model.key: set(model.aliases) for model in scan([tmp_path]).models() if model.name in ("cats", "dogs")}
    assert found == {"cats@1": {"stable", "production"}, "cats@2": {"next"}, "dogs@1": set()}


@pytest.mark.parametrize("text", ["", "stable 1", "- stable", "stable", "stable: [", "\xff"])
def test_aliases_that_map_nothing_are_told_of_and_stop_nothing_else(tmp_path, text):
    put(tmp_path, "cats", "1")
    put(tmp_path, "dogs", "1", aliases="stable: 1")
    (tmp_path / "cats" / "aliases.yaml").write_bytes(text.encode("latin-1"))
    listing = scan([tmp_path])
    assert {"cats@1", "dogs@1"} < {entry.key for entry in listing}
    assert listing.aliases == {"dogs": {"stable": "1"}}
    (said,) = listing.astray
    assert listing.unusable == {"cats": said}
    assert str(tmp_path / "cats" / "aliases.yaml") in said
    assert "\n" not in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_aliases_that_may_not_be_read_are_no_fault_of_the_file(tmp_path):
    put(tmp_path, "cats", "1", aliases="stable: 1")
    (tmp_path / "cats" / "aliases.yaml").chmod(0)
    with pytest.raises(ModelFailed, match="Permission denied"):
        scan([tmp_path])


def test_what_is_no_model_is_passed_over(tmp_path):
    put(tmp_path, "cats", "1")
    put(tmp_path, ".git", "1")
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "cats" / "notes").mkdir()
    (tmp_path / "cats" / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    assert keys(tmp_path) == EMBEDDED_KEYS | {"cats@1"}


def test_a_wrong_spec_is_found_when_it_is_read_not_when_it_is_listed(tmp_path):
    folder = put(tmp_path, "cats", "1")
    (folder / "model.yaml").write_text("source: keras")
    entry = next(entry for entry in scan([tmp_path]) if entry.name == "cats")
    with pytest.raises(ModelFailed, match=r"model\.yaml: source:"):
        entry.spec()


def test_a_repository_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelFailed, match=r"nowhere can't be read: No such file"):
        scan([tmp_path, tmp_path / "nowhere"])


def test_a_repository_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelFailed, match=r"file can't be read: Not a directory"):
        scan([tmp_path / "file"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("closed", [".", "cats", "cats/1"])
def test_a_folder_that_may_not_be_read_is_refused(tmp_path, closed):
    put(tmp_path, "cats", "1")
    (tmp_path / closed).chmod(0)
    try:
        with pytest.raises(ModelFailed, match="Permission denied"):
            scan([tmp_path])
    finally:
        (tmp_path / closed).chmod(0o700)


SAYS = {
    "birds/1/model.yml": "the name must be model.yaml",
    "birds/1/MODEL.YAML": "the name must be model.yaml",
    "birds/1/model.yaml.txt": "the name must be model.yaml",
    "birds/model.yaml": "move it to birds/1/model.yaml",
    "birds/model.yml": "move it to birds/1/model.yaml",
    "1/model.yaml": "the repository is the folder above",
    "model.yaml": "birds/1/model.yaml",
    "birds/1/files/model.yaml": "too deep",
    "birds/1/w.pth": "no model.yaml beside it",
    "birds/model_best.pth.tar": "no model.yaml beside it",
    "last.ckpt": "no model.yaml beside it",
    "birds/aliases.yml": "birds/aliases.yaml",
    "aliases.yaml": "birds/aliases.yaml",
}


@pytest.mark.parametrize("path", SAYS)
def test_what_was_meant_for_a_model_and_is_none_is_told_of_in_a_line(tmp_path, path):
    put(tmp_path, "cats", "1")
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    listing = scan([tmp_path])
    (said,) = listing.misplaced
    assert said.startswith(f"{tmp_path}/{path} isn't read: ")
    assert SAYS[path] in said
    assert {entry.key for entry in listing} == EMBEDDED_KEYS | {"cats@1"}


def test_a_folder_that_is_none_of_a_model_is_told_of_once(tmp_path):
    for name in ("model.yml", "w.pth", "w.onnx"):
        (tmp_path / "birds" / "1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "birds" / "1" / name).touch()
    (said,) = scan([tmp_path]).misplaced
    assert "model.yml isn't read" in said
    for number in range(20):
        (tmp_path / f"{number}.onnx").touch()
        (tmp_path / f"old{number}").mkdir()
        (tmp_path / f"old{number}" / "w.onnx").touch()
    assert scan([tmp_path]).misplaced[10:] == (f"{tmp_path}/and 12 more",)


def test_what_lies_beside_a_model_is_not_complained_of(tmp_path):
    folder = put(tmp_path, "cats", "1", aliases="stable: 1")
    for path in (
        "cats/1/w.pth",
        "cats/1/old/model.yml",
        "cats/w.pth",
        "cats/README.md",
        "README.md",
        ".git/model.yaml",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (folder / "model.yml").touch()
    assert scan([tmp_path]).misplaced == ()
