"""What the files that `gradcam export` writes may be called, and the program beside them still be one."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from command import gradcam
from gradcam_service.export.program import is_ours, program_for
from gradcam_service.registry.repository import EMBEDDED, parse_spec

SPEC = parse_spec((EMBEDDED / "scenes" / "1" / "model.yaml").read_text(), "scenes")


def test_whatever_the_files_name_it_is_a_program():
    ast.parse(program_for('my """model""" \\', "scenes@1", SPEC))


def test_a_program_of_a_model_with_a_line_break_in_its_name_may_be_written_again(tmp_path: Path):
    (tmp_path / "broken.py").write_text(program_for("broken", "broken\nname@1", SPEC))
    assert is_ours(tmp_path / "broken.py")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("numpy.onnx", "'numpy' is a module's name"),
        ("types.onnx", "'types' is a module's name"),
        ("PIL.onnx", "'PIL' is a module's name"),
        ("a\nb.onnx", "'a\\nb' is"),
        (os.fsdecode(b"caf\xe9.onnx"), "unprintable"),
        ("scenes.ONNX", "must end in .onnx"),
    ],
)
def test_a_name_with_which_the_program_could_not_run_is_refused(file: str, said: str, tmp_path: Path):
    done = gradcam("export", "nothing", "-o", tmp_path / file)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_of_ones_own_is_not_overwritten(tmp_path: Path):
    (tmp_path / "scenes.py").write_text("import mine\n")
    done = gradcam("export", "scenes", "-o", tmp_path / "scenes.onnx")
    assert done.returncode == 2
    assert "scenes.py is there" in done.stderr
    assert (tmp_path / "scenes.py").read_text() == "import mine\n"
    assert len(list(tmp_path.iterdir())) == 1
