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
    monkeypatch.setattr(kinds, "_PLUGINS", {constant: {} for constant in kinds.CONSTANTS})


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
    (tmp_path / "shining.py").write_text("METHOD = 'shining'\nSOURCE = 'at'")
    load_plugins(tmp_path)
    assert list(methods) == ["one", "two", "shining"]
    assert methods["shining"] == "shining"
    assert Kinds("made_up", "SOURCE")["shining"] == "at"


def test_a_plugin_may_import_what_asks_for_all_kinds(methods: Kinds[str], tmp_path: Path, monkeypatch):
    (tmp_path / "asking.py").write_text("from made_up_schemas import names\nSOURCE = names")
    (tmp_path / "shining.py").write_text("METHOD = 'shining'")
    schemas = ModuleType("made_up_schemas")
    schemas.__getattr__ = lambda name: {kind: methods[kind] for kind in methods if kind != "two"}
    monkeypatch.setitem(sys.modules, "made_up_schemas", schemas)
    load_plugins(tmp_path)
    assert Kinds("made_up", "SOURCE")["asking"] == {"one": "the first", "shining": "shining"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("METHOD = (", "can't be imported: '\\(' was never closed"),
        ("VALUE = 1", "declares none of METHOD, TARGET"),
        ("class Bare:\n    prediction = str\nTASK = Bare()", "TASK of .* doesn't extend gradcam_service.tasks.Task"),
        (
            "from gradcam_service.targets.class_ import Class\nTASK = Class()",
            "TASK of .* doesn't extend gradcam_service.tasks.Task",
        ),
        (
            "from gradcam_service.targets.class_ import Class\nTARGET = Class",
            "TARGET of .* is a class; Class\\(\\) would work",
        ),
        (
            "from gradcam_service.targets.class_ import Class\n"
            "class Careful:\n    differentable = True\nclass Stage(Careful, Class):\n    pass",
            "a TargetKind has no 'differentable'",
        ),
        ("1 / 0", "can't be imported: division by zero"),
        (
            "from gradcam_service.targets.class_ import Class\nclass Stage(Class):\n    differentable = True",
            "a TargetKind has no 'differentable' .did you mean 'differentiable'",
        ),
        (
            "from gradcam_service.tasks import Task\nclass Ordered(Task):\n    prediction = str\nTASK = Ordered()",
            "Can't instantiate abstract class Ordered with abstract method predict",
        ),
    ],
)
def test_a_plugin_that_is_none_ends_the_start_in_one_line(tmp_path: Path, content: str, said: str):
    (tmp_path / "broken.py").write_text(content)
    with pytest.raises(BadSettings, match=said) as caught:
        load_plugins(tmp_path)
    assert "broken.py" in caught.value.detail
    assert "\n" not in caught.value.detail


def test_what_editors_and_copies_leave_beside_plugins_is_none(methods: Kinds[str], tmp_path: Path):
    (tmp_path / "shining.py").write_text("METHOD = 'shining'")
    (tmp_path / "._shining.py").write_bytes(b"\0\5\26\7")
    (tmp_path / ".#shining.py").symlink_to("somebody@somewhere.1234")
    load_plugins(tmp_path)
    assert list(methods) == ["one", "two", "shining"]


@pytest.mark.parametrize("what", ["a folder", "a link to nowhere"])
def test_a_plugin_that_can_not_be_read_ends_the_start_in_one_line(tmp_path: Path, what: str):
    path = tmp_path / "broken.py"
    path.mkdir() if what == "a folder" else path.symlink_to("nowhere.py")
    with pytest.raises(BadSettings, match=r"broken\.py can't be imported: \[Errno"):
        load_plugins(tmp_path)


def test_a_plugin_may_have_an_encoding_of_its_own(methods: Kinds[str], tmp_path: Path):
    (tmp_path / "latin.py").write_bytes("# coding: latin-1\nMETHOD = 'à côté'".encode("latin-1"))
    (tmp_path / "marked.py").write_text("METHOD = 'à côté'", encoding="utf-8-sig")
    load_plugins(tmp_path)
    assert methods["latin"] == methods["marked"] == "à côté"


def test_a_plugin_replaces_the_kind_of_its_name(methods: Kinds[str], tmp_path: Path):
    (tmp_path / "one.py").write_text("METHOD = 'another'")
    load_plugins(tmp_path)
    assert list(methods) == ["one", "two"]
    assert methods["one"] == "another"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BadSettings, match="there is no folder"):
        load_plugins(tmp_path / "nowhere")
