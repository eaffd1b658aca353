"""Kinds of a thing: those of a package, and those that an operator's folder of plugins adds."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from gradcam_service import kinds
from gradcam_service.errors import BadSettings
from gradcam_service.kinds import Kinds, load_plugins


@pytest.fixture(autouse=True)
def _no_plugins_are_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kinds, "_PLUGINS", {constant: {} for constant in kinds._DECLARED})


@pytest.fixture
def methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kinds[str]:
    package = ModuleType("made_up")
    package.__path__ = [str(tmp_path / "package")]
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("METHOD = 'the first'")
    (tmp_path / "package" / "two.py").write_text("raise ImportError('two is imported')")
    (tmp_path / "package" / "_helper.py").write_text("METHOD = 'none of them'")
    monkeypatch.setitem(sys.modules, "made_up", package)
    return Kinds("made_up", "METHOD")


def test_each_module_of_the_package_is_a_kind(methods: Kinds[str]):
    assert list(methods) == ["one", "two"]
    assert methods["one"] == "the first"
    assert "_helper" not in methods
    assert methods.get("three") is None


def test_a_kind_is_imported_only_when_it_is_looked_up(methods: Kinds[str]):
    assert len(methods) == 2
    with pytest.raises(ImportError, match="two is imported"):
        methods["two"]


def test_a_plugin_adds_the_kinds_that_it_declares(methods: Kinds[str], tmp_path: Path):
    (tmp_path / "shining.py").write_text("METHOD = 'shining'\nTARGET = 'at'")
    load_plugins(tmp_path)
    assert list(methods) == ["one", "two", "shining"]
    assert methods["shining"] == "shining"
    assert Kinds("made_up", "TARGET")["shining"] == "at"


def test_a_plugin_may_import_what_asks_for_all_kinds(methods: Kinds[str], tmp_path: Path, monkeypatch):
    (tmp_path / "asking.py").write_text("from made_up_schemas import names\nTARGET = names")
    (tmp_path / "shining.py").write_text("METHOD = 'shining'")
    schemas = ModuleType("made_up_schemas")
    schemas.__getattr__ = lambda name: {kind: methods[kind] for kind in methods if kind != "two"}
    monkeypatch.setitem(sys.modules, "made_up_schemas", schemas)
    load_plugins(tmp_path)
    assert Kinds("made_up", "TARGET")["asking"] == {"one": "the first", "shining": "shining"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("METHOD = (", "can't be imported: '\\(' was never closed"),
        ("VALUE = 1", "declares none of METHOD, TARGET"),
        ("1 / 0", "can't be imported: division by zero"),
    ],
)
def test_a_plugin_that_is_none_ends_the_start_in_one_line(tmp_path: Path, content: str, said: str):
    (tmp_path / "broken.py").write_text(content)
    with pytest.raises(BadSettings, match=said) as caught:
        load_plugins(tmp_path)
    assert "broken.py" in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_plugin_replaces_the_kind_of_its_name(methods: Kinds[str], tmp_path: Path):
    (tmp_path / "one.py").write_text("METHOD = 'another'")
    load_plugins(tmp_path)
    assert list(methods) == ["one", "two"]
    assert methods["one"] == "another"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadSettings, match="there is no folder"):
        load_plugins(tmp_path / "nowhere")
