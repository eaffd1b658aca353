"""ONNX Runtime beside torch: it keeps nothing of its own, and reports nothing."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from gradcam_service.runtime.onnxruntime import open_session

OPENS = """
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
open_session(model).run(None, {"x": np.ones(1, "float32")})
"""
OURS = f"import numpy as np\nfrom gradcam_service.runtime.onnxruntime import open_session\n{OPENS}"
BARE = f"import numpy as np\nfrom onnxruntime import InferenceSession as open_session\n{OPENS}"


def left_by(program: str, folder: Path) -> list[str]:
    """What it has written below a user's own folders."""
    told = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    untold = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    subprocess.run([sys.executable, "-c", program], env=untold | told, check=True)
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_it_keeps_no_events_and_no_number_of_the_machine(tmp_path: Path):
    """Which its package does from its import on, to send them to Microsoft (its Privacy.md)."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "ours").mkdir()
    if "deviceid" not in left_by(BARE, tmp_path / "bare"):
        pytest.skip("this package of ONNX Runtime has no telemetry")
    assert left_by(OURS, tmp_path / "ours") == []


def test_it_does_not_hold_the_file_that_it_was_opened_from():
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=[1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [value("x")], [value("y")])
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    before = sys.getrefcount(model)
    session = open_session(model)
    assert sys.getrefcount(model) == before
    assert session.run(None, {"x": np.ones(1, np.float32)}) == [-1]
