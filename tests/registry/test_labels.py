"""Labels as people write them: the same classes, whatever the file."""

import json
from pathlib import Path

import pytest
import yaml

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.labels import from_file, to_file
from gradcam_service.registry.repository import parse_spec

HEAD = "source: zoo\narchitecture: scenes\nweights: random:0\n"
WORDS = ["Käfer", "ice cream", "no"]
BY_INDEX = dict(enumerate(WORDS))


def labels_of(folder: Path, named: str) -> list[str] | None:
    return ModelFolder(parse_spec(f"{HEAD}labels: {named}\n", "model.yaml"), folder).labels()


def of_file(folder: Path, text: str, name: str) -> list[str] | None:
    (folder / name).write_bytes(text.encode())
    return labels_of(folder, name)


@pytest.mark.parametrize("name", ["labels.json", "labels.txt"])
@pytest.mark.parametrize(
    "written",
    [
        WORDS,
        BY_INDEX,
        dict(reversed(BY_INDEX.items())),
        {index: [f"n{index:08}", word] for index, word in BY_INDEX.items()},
        {word: index for index, word in BY_INDEX.items()},
        {word: str(index) for index, word in BY_INDEX.items()},
    ],
    ids=["list", "id2label", "in any order", "index_to_name", "class_to_idx", "class_to_idx of numerals"],
)
def test_json_names_the_same_classes(tmp_path: Path, name: str, written: object):
    assert of_file(tmp_path, "\ufeff" + json.dumps(written, indent=1) + "\n", name) == WORDS


@pytest.mark.parametrize("name", ["labels.yaml", "labels.YML"])
@pytest.mark.parametrize("written", [WORDS, BY_INDEX])
def test_yaml_names_the_same_classes(tmp_path: Path, name: str, written: object):
    assert of_file(tmp_path, yaml.safe_dump(written, allow_unicode=True).replace("'no'", "no"), name) == WORDS


def test_a_dictionary_as_python_writes_it_is_read(tmp_path: Path):
    assert of_file(tmp_path, "{0: 'Käfer',\n 1: 'ice cream',\n 2: 'no'}", "clsidx_to_labels.txt") == WORDS


@pytest.mark.parametrize("written", ["[Käfer, ice cream, no]", "{0: Käfer, 1: ice cream, 2: no}", json.dumps(WORDS)])
def test_labels_may_be_in_model_yaml_and_are_the_text_that_is_written(tmp_path: Path, written: str):
    assert labels_of(tmp_path, written) == WORDS
    assert labels_of(tmp_path, "[007, 1e3, ~, 2026-01-01, on]") == ["007", "1e3", "~", "2026-01-01", "on"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_lines_end_at_line_feeds_alone(tmp_path: Path, character: str):
    text = f"a{character}b\n\tc {character}\nd\n{character}\n\n"
    assert of_file(tmp_path, text, "labels.txt") == [f"a{character}b", "c", "d"]


@pytest.mark.parametrize(
    "labels", [["cat", "dog"], ["[x]"], ["{a: b}", "cat"], ["cat", "[x]"], ["cat", ""], ["", "[x]"], ["a\nb", "é"]]
)
def test_labels_that_are_written_are_read_again(labels: list[str]):
    assert from_file(to_file(labels), "labels.txt") == labels


def test_a_label_in_brackets_is_a_label(tmp_path: Path):
    assert of_file(tmp_path, "[unknown]\ncat\n", "labels.txt") == ["[unknown]", "cat"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("labels.txt", "", "there is none"),
        ("labels.txt", "\ufeff \n\n", "there is none"),
        ("labels.txt", "[]", "not empty"),
        ("labels.json", '["cat", ', "neither JSON nor YAML"),
        ("labels.json", '"cat"', "a list, or a mapping"),
        ("labels.json", '["cat", null]', "null is none"),
        ("labels.json", '["cat", {"en": "dog"}]', "is none"),
        ("labels.json", '{"1": "cat", "2": "dog"}', "class 0 has none"),
        ("labels.json", '{"0": "cat", "2": "dog"}', "class 1 has none"),
        ("labels.json", '{"0": "cat", "00": "dog"}', "class 1 has none"),
        ("labels.json", '{"cat": 0, "dog": 0}', "two have the same index"),
        ("labels.json", '{"names": ["cat"]}', "'names' is no index"),
        ("labels.yaml", "a: &a [*a]", "'a' is no index"),
    ],
)
def test_what_are_no_labels_is_refused_saying_what_would_be(tmp_path: Path, name: str, text: str, says: str):
    with pytest.raises(ModelFailed, match=says) as caught:
        of_file(tmp_path, text, name)
    assert caught.value.detail.startswith(f"labels {name}")
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) <= 300


def test_labels_in_model_yaml_that_are_none_are_refused():
    with pytest.raises(ModelFailed, match=r"^model\.yaml: labels: .*class 0 has none"):
        parse_spec(f"{HEAD}labels: {{1: cat}}\n", "model.yaml")


def test_utf_16_is_refused_saying_what_would_work(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n", encoding="utf-16")
    with pytest.raises(ModelFailed, match=r"labels\.txt are not UTF-8; save them as that"):
        labels_of(tmp_path, "labels.txt")
