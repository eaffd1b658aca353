"""Which runtime computes a compiled model is found by a race, once on each machine."""

import msgspec
import pytest
from msgspec.structs import replace

from gradcam_service.compiled import choice
from gradcam_service.compiled.choice import Choice, machine
from gradcam_service.compiled.model import _compilations
from gradcam_service.registry.loading import load
from gradcam_service.worker.messages import Question

from .test_compiled import altered, answers, both, entry, inputs, near

CHOSEN = Choice(
    "auto in float32", "openvino", "float32", ("onnxruntime takes 2.00 of the time of openvino",), machine()
)


@pytest.mark.parametrize("was", [CHOSEN, replace(CHOSEN, asked="auto in auto")], ids=["alike", "other precisions"])
def test_what_was_the_fastest_on_this_machine_is_opened_at_once(was, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    assert first.card.runtime == "onnxruntime"
    choice.write(_compilations(first.folder), replace(was, machine=machine()))
    again = load(entry(first.folder), "cpu")
    assert (again.card.runtime, again.card.digest) == ("openvino", first.card.digest)
    given, asked = [inputs(both("scenes")[0])], [Question("gradcam")]
    near(answers(again, given, asked)[0].maps, answers(first, given, asked)[0].maps)
    said = again.accelerated("float32", 0)
    assert (said == CHOSEN.others[0]) == (was is CHOSEN)  # else there is a race


def test_a_race_is_run_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(entry(altered(tmp_path, "scenes")), "cpu")
    won = first.accelerated("float32", 0)
    runtime = first.card.runtime if isinstance(won, str) else won.card.runtime
    kept = choice.read(_compilations(first.folder))
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
