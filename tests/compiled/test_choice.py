"""Which runtime computes a compiled model is found by a race, once on each machine."""

import shutil

import msgspec
import pytest
from msgspec.structs import replace

from gradcam_service import kinds
from gradcam_service.compiled import choice
from gradcam_service.compiled.choice import Choice, machine
from gradcam_service.compiled.model import compilations
from gradcam_service.question import Question
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.loading import load
from gradcam_service.runtime import openvino

from .test_compiled import altered, answers, both, entry, inputs, near

CHOSEN = Choice(
    "auto in float32", "openvino", "float32", ("onnxruntime takes 2.00 of the time of openvino",), machine()
)


@pytest.mark.parametrize("was", [CHOSEN, replace(CHOSEN, asked="auto in auto")], ids=["alike", "other precisions"])
def test_what_was_the_fastest_on_this_machine_is_opened_at_once(was, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    assert first.card.runtime == "onnxruntime"
    choice.write(compilations(first.folder), replace(was, machine=machine()))
    again = load(entry(first.folder), "cpu")
    assert (again.card.runtime, again.card.digest) == ("openvino", first.card.digest)
    given, asked = [inputs(both("scenes")[0])], [Question("gradcam")]
    near(answers(again, given, asked)[0].maps, answers(first, given, asked)[0].maps)
    said = again.accelerated("float32", 0)
    assert (said == CHOSEN.others[0]) == (was is CHOSEN)  # else there is a race


def test_a_choice_that_can_not_be_opened_now_yields_to_what_can(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    choice.write(compilations(first.folder), replace(CHOSEN, machine=machine()))

    def lacking() -> None:
        raise ImportError("libtbb.so: cannot open shared object file")

    monkeypatch.setattr(openvino, "core", lacking)
    again = load(entry(first.folder), "cpu")
    assert again.card.runtime == "onnxruntime"
    assert "openvino, which was the fastest here, can't open the model: libtbb.so" in caplog.text


@pytest.mark.parametrize("at_once", [True, False], ids=["opened at once", "taken later"])
def test_openvino_holds_the_weights_twice(at_once, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    weights = len(first.network.cuts) * (first.folder / "weights.bin").stat().st_size
    assert first.card.memory == weights
    choice.write(compilations(first.folder), replace(CHOSEN, machine=machine()))
    taken = load(entry(first.folder), "cpu") if at_once else first.accelerated("float32", 0)
    assert (taken.card.runtime, taken.card.memory) == ("openvino", 2 * weights)


def test_a_race_is_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    won = first.accelerated("float32", 0)
    runtime = first.card.runtime if isinstance(won, str) else won.card.runtime
    kept = choice.read(compilations(first.folder))
    assert kept is not None
    assert (kept.asked, kept.runtime, kept.precision) == ("auto in float32", runtime, "float32")
    again = load(entry(first.folder), "cpu")
    assert again.card.runtime == runtime
    assert again.accelerated("float32", 0) == ("; ".join(kept.others) or f"it stays on {runtime}")


@pytest.mark.parametrize("content", [msgspec.json.encode(replace(CHOSEN, machine="another")), b"{", b"{}", None])
def test_another_machines_choice_and_a_damaged_one_are_none(content, tmp_path):
    if content is not None:
        (tmp_path / "choice.json").write_bytes(content)
    assert choice.read(tmp_path) is None
    here = replace(CHOSEN, machine=machine())
    choice.write(tmp_path, here)
    assert choice.read(tmp_path) == here


RUNTIME = """
from gradcam_service.runtime import Runtime
RUNTIME = Runtime(lambda work, precision: work.backbone, devices=("cpu",), libraries=("swift",))
"""


def test_an_upgrade_of_what_a_plugin_computes_with_makes_it_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "_PLUGINS", {constant: {} for constant in kinds.CONSTANTS})
    monkeypatch.setattr(kinds, "_CODE", {})
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "swift.py").write_text(RUNTIME)
    kinds.load_plugins(tmp_path / "plugins")
    seen = [machine()]
    for version in ("1.0", "1.1"):
        (tmp_path / f"swift-{version}.dist-info").mkdir()
        (tmp_path / f"swift-{version}.dist-info" / "METADATA").write_text(f"Name: swift\nVersion: {version}\n")
        seen.append(machine())
        shutil.rmtree(tmp_path / f"swift-{version}.dist-info")
    assert len(set(seen)) == 3
    assert machine() == seen[0]


def test_a_process_of_its_own_races_and_what_lost_never_was_in_this_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load(entry(altered(tmp_path, "scenes")), "cpu", surroundings=Surroundings(log_level="warning", threads=2))
    assert not model.exporter.is_ready()
    model.exporter.export()
    assert (model.exporter.is_ready(), model.exporter.failure) == (True, "")
    kept = msgspec.json.decode(next(tmp_path.glob("gradcam/compiled/*/choice.json")).read_bytes(), type=Choice)
    monkeypatch.setattr(choice, "machine", lambda: kept.machine)  # as many threads as that process has
    taken = model.accelerated("float32", 0)
    assert (model.card.runtime if isinstance(taken, str) else taken.card.runtime) == kept.runtime
    again = load(entry(model.folder), "cpu", surroundings=Surroundings(threads=2))
    assert (again.exporter.is_ready(), again.card.runtime) == (True, kept.runtime)


def test_a_model_stays_as_it_is_where_the_process_that_races_dies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = altered(tmp_path, "scenes")
    model = load(entry(folder), "cpu", surroundings=Surroundings(log_level="warning"))
    (folder / "head.onnx").write_bytes(b"")
    model.exporter.export()
    assert model.exporter.is_ready()
    assert model.accelerated("float32", 0) == "head.onnx is not what gradcam compile wrote; compile the model again"
