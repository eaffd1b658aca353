"""Checks that a ``.pt2`` archive holds nothing but tensors and a graph of torch's own operators.

Loading an archive runs code out of it in more ways than one
(https://docs.pytorch.org/docs/stable/generated/torch.export.load.html): pickled constants, weights and sample inputs;
compiled libraries; targets that are any function reachable from ``torch``; size expressions, which are evaluated;
names, which become Python source; input and output structures, which import modules; and guards, which are compiled.
All but guards are refused here, before anything is loaded; guards are to be thrown away before they are used.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.registry.foreign import foreign

_COMPILED = "data/aotinductor/"
_RECORD = re.compile(
    r"data/(weights/weight|constants/tensor)_\d+"
    r"|models/\w+\.json|data/(weights/\w+_weights|constants/\w+_constants)_config\.json"
    r"|data/(weights|constants|sample_inputs)/\w+\.pt"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+|extra/.*",
    re.ASCII | re.DOTALL,
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.(?!from_file|save\b)\w+\.\w+"
    r"|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)"
    r"|torch\.sym_\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.\w+"
)
_EXPRESSION = re.compile(
    r"(Symbol\('[a-z]+\d+'(, \w+=(True|False))*\)"
    r"|\b(Add|Mul|Pow|Integer|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv)\b"
    r"|[\d(), -])*"
)
_STRUCTURE = re.compile(r"""(?!.*(__enum__|default_factory))([\w\s.,:"\[\]{}-]|\\+")*""", re.DOTALL)
_CHECKED = ("target", "as_operator", "expr_str", "in_spec", "out_spec")
_FREE = ("metadata", "as_string", "as_strings", "guards_code", "torch_version")
"""Members that are text: torch quotes them where they get into source, if they do."""


def refuse_code(path: Path) -> None:
    """Refuse an archive that could run code, without loading it; torch's own reader shows what torch will see.

    Raises:
        ModelFailed: it is no archive of ``torch.export.save``, or it holds something that could run code.
    """
    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = {name: reader.get_record(name) for name in reader.get_all_records() if not _is_tensor(name)}
        kind = records.get("archive_format", b"").decode()
        described = [json.loads(data) for name, data in records.items() if name.endswith(".json")]
    except (RuntimeError, ValueError) as error:
        what = foreign(path, "pt2") or first_line(error)
        raise ModelFailed(f"{path.name} is no archive of torch.export.save: {what}") from error
    if kind != "pt2":
        what = foreign(path, "pt2") or "or one of torch before 2.8; export it again"
        raise ModelFailed(f"{path.name} is no archive of torch.export.save, {what}")
    if any(name.startswith(_COMPILED) for name in records):
        raise ModelFailed(f"{path.name} refused: it holds a compiled library; save the exported program itself")
    known = set()
    for name in reader.get_all_records():
        # The reader finds records whatever their case, so that one could stand for another.
        if not _RECORD.fullmatch(name) or name.lower() in known:
            raise ModelFailed(f"{path.name} refused: it holds {name[:100]!r}, which is no part of a graph with tensors")
        known.add(name.lower())
    for name, data in records.items():
        if name.endswith(".pt"):
            _refuse_pickle(path, name, data)
    for key, value, free in _members(described):
        _refuse_member(path, key, value)
        if not free:
            _refuse_name(path, key, value)


def _is_tensor(name: str) -> bool:
    """Whether a record is a tensor's bytes, which nothing interprets and which may be large."""
    return re.fullmatch(r"data/(weights/weight|constants/tensor)_\d+", name) is not None


def _refuse_pickle(path: Path, name: str, data: bytes) -> None:
    try:
        if data:
            torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged record leads torch to
        raise ModelFailed(f"{path.name} refused: {name} holds pickled code, not only tensors") from error


def _members(value: Any, free: bool = False) -> Iterator[tuple[str, Any, bool]]:  # noqa: ANN401
    """Every member of every object in a JSON document, and whether it is or belongs to text."""
    if isinstance(value, list):
        for element in value:
            yield from _members(element, free)
    elif isinstance(value, dict):
        for key, element in value.items():
            yield key, element, free or key in _FREE
            yield from _members(element, free or key in _FREE)


def _refuse_member(path: Path, key: str, value: object) -> None:
    if key == "use_pickle" and value is not False:
        raise ModelFailed(f"{path.name} refused: it holds pickled tensors; only plain tensors are loaded, never code")
    if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
        raise ModelFailed(f"{path.name} refused: it holds a pickled object ({value}); only tensors are loaded")
    if key in ("target", "as_operator") and isinstance(value, str) and not _OPERATORS.fullmatch(value):
        raise ModelFailed(f"{path.name} refused: it calls {value}, which is none of torch's own operators")
    if key == "expr_str" and not _EXPRESSION.fullmatch(str(value)):
        raise ModelFailed(f"{path.name} refused: {str(value)[:100]!r} is no size")
    if key in ("in_spec", "out_spec") and not _STRUCTURE.fullmatch(str(value)):
        raise ModelFailed(f"{path.name} refused: {str(value)[:100]!r} is no structure of inputs or outputs")


def _refuse_name(path: Path, key: str, value: object) -> None:
    if key in _CHECKED:
        return
    texts = [key, *(value if isinstance(value, list) else [value])]
    allowed = r"\w*" if key in ("name", "as_name", "forward_arg_names") else r"[\w.@-]*"
    if strange := [text for text in texts if isinstance(text, str) and not re.fullmatch(allowed, text)]:
        raise ModelFailed(f"{path.name} refused: {strange[0][:100]!r} is no name")
