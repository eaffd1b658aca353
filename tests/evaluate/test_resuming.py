"""What an evaluation is gone on with: its journal, as processes and disks leave it, and what computed the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from command import gradcam, opened
from gradcam_service import kinds
from gradcam_service.errors import BadRequest
from gradcam_service.evaluate import journal
from gradcam_service.evaluate.datasets import Source, collect
from gradcam_service.evaluate.explainer import Explainer, on_fastest_runtime
from gradcam_service.evaluate.journal import Entry
from gradcam_service.evaluate.protocols import PROTOCOLS
from gradcam_service.evaluate.runner import Plan, Planned, looked_at, measured, run

SLOW = """
import time

from gradcam_service.runtime import Runtime


def build(work, precision):
    def computed(images):
        time.sleep(0.02 if precision == "bfloat16" else 0.0)
        return work.backbone(images)

    return computed


RUNTIME = Runtime(build, ("cpu",), ("float32", "bfloat16"), ("float32", "bfloat16"))
"""
"""A runtime with the same numbers in both precisions, which no stopwatch would have in bfloat16."""
ENERGY = Planned("energy", PROTOCOLS["energy"], {})


@pytest.mark.parametrize(("described", "setting"), [("auto", "float32"), (None, "auto")])
@pytest.mark.parametrize("runtime", ["auto", "slow"])
def test_the_precision_that_measured_the_rest_stays(
    models: Path, tmp_path: Path, monkeypatch, runtime, described, setting
):
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setitem(kinds._PLUGINS, "RUNTIME", {"slow": tmp_path / "slow.py"})
    still = opened("still", model_repository=models, precision=setting)
    spec = still.model.spec.model_copy(update={"runtime": runtime, "precision": described})
    asked = replace(still, model=replace(still.model, spec=spec))
    card = on_fastest_runtime(asked, Entry("", "", runtime="slow", precision="bfloat16")).model.card
    assert (card.runtime, card.precision) == ("slow", "bfloat16")


def one_picture(models: Path, read: Callable[[bytes], bytes]) -> Plan:
    """A plan to measure one picture, which is read as a test has it, given its bytes."""
    still = opened("still", model_repository=models)
    (drawn,) = collect(Source("scenes", limit=1), still.model.card.labels).samples
    return Plan(Explainer(still), [replace(drawn, read=lambda: read(drawn.read()))], ["gradcam"], [ENERGY])


def test_a_picture_that_could_not_be_read_for_once_is_looked_at_the_next_time(models: Path, tmp_path: Path):
    reads: list[bytes] = []

    def failing_later(data: bytes) -> bytes:
        reads.append(data)
        if len(reads) > 1:  # it could be read for its key
            raise OSError(5, "Input/output error")
        return data

    cut = one_picture(models, failing_later)
    with journal.opened(tmp_path, resume=False) as kept:
        run(cut, kept, lambda _: None)
        with pytest.raises(BadRequest, match="Input/output error"):
            looked_at(cut, kept)
    whole = one_picture(models, lambda data: data)
    with journal.opened(tmp_path, resume=True) as kept:
        assert whole.left(kept) == whole.total
        run(whole, kept, lambda _: None)
        assert looked_at(whole, kept) == (1, [])
        (of,), _ = measured(whole, ENERGY, kept)
        assert of.rows


def test_one_process_at_a_time_writes_a_journal(models: Path, tmp_path: Path):
    with journal.opened(tmp_path, resume=False) as first:
        first.add(Entry("a", "one"))
        arguments = ("evaluate", "scenes", "--limit", 1, "--model", "still", "-o", tmp_path, "--resume")
        second = gradcam(*arguments, model_repository=models, cpus=1)
        assert second.returncode == 2
        assert "another gradcam evaluate writes" in second.stderr
        first.add(Entry("b", "two"))
    with journal.opened(tmp_path, resume=True) as kept:
        assert [kept.get(key) for key in "ab"] == [Entry("a", "one"), Entry("b", "two")]


def test_of_a_damaged_journal_nothing_is_dropped_but_a_last_line_that_was_cut_off(tmp_path: Path):
    lines = [journal.as_json(Entry(key, "picture")) + b"\n" for key in "abc"]
    path = tmp_path / journal.FILE
    damaged = lines[0] + lines[1][:9] + b"\n" + lines[2]
    path.write_bytes(damaged)
    with (
        pytest.raises(BadRequest, match="line 2, is no measure"),
        journal.opened(tmp_path, resume=True),
    ):
        pass
    assert path.read_bytes() == damaged
    path.write_bytes(b"".join(lines) + lines[0][:9])
    with journal.opened(tmp_path, resume=True) as kept:
        assert kept.latest == Entry("c", "picture")
        kept.add(Entry("d", "picture"))
    assert path.read_bytes() == b"".join([*lines, journal.as_json(Entry("d", "picture")), b"\n"])
