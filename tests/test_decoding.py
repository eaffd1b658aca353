"""Decoders of structs are made while their modules are imported, which one thread does.

msgspec finds out what a struct's members are when it is first decoded, and two threads that are first at once crash the
process: two models whose compiled forms were opened at a start did, one start in six.
"""

import ast
from pathlib import Path

import gradcam_service

PACKAGE = Path(gradcam_service.__file__).parent


def test_none_is_made_where_something_is_to_be_decoded():
    calls = [
        (file.name, call)
        for file in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("msgspec.json.decode", "msgspec.msgpack.decode")
    ]
    assert len(calls) > 5
    assert [(name, ast.unparse(call)) for name, call in calls if _of_struct(call)] == []


def _of_struct(call: ast.Call) -> bool:
    return any(keyword.arg == "type" and isinstance(keyword.value, ast.Name) for keyword in call.keywords)
