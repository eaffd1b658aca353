"""Writes the Python client's options from the schemas of requests, so that type checkers know them: ``make docs``."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradcam_service
from gradcam_service.core.options import METHOD_OPTIONS, ExplainOptions, PredictOptions
from gradcam_service.targets import TARGETS

FILE = Path(gradcam_service.__file__).parent / "client" / "options.py"
_WIDTH = 120
_HEAD = '''\
"""Options of requests for type checkers, made of `gradcam_service.core.options` and the targets by ``make docs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict
'''
_WORDS = {"integer": "int", "number": "float", "string": "str", "boolean": "bool"}


def text() -> str:
    """The module."""
    objects = {name: kind.schema for name, kind in TARGETS.items() if kind.schema.get("type") == "object"}
    target = " | ".join(["int", "str", *map(_class_name, objects)])
    parts = [_HEAD, *(_object(name, schema) for name, schema in objects.items())]
    parts.append(
        f'Target: TypeAlias = {target}\n"""what to explain: a class by its index or label, or an object"""\n\n'
    )
    parts.append(_options("PredictOptions(TypedDict, total=False)", PredictOptions.model_json_schema(), "/predict"))
    known = PredictOptions.model_fields
    schema = ExplainOptions.model_json_schema()
    own = [name for name in schema["properties"] if name not in known]
    schema["properties"] = {name: schema["properties"][name] for name in sorted(own, key=METHOD_OPTIONS.__contains__)}
    parts.append("\n" + _options("ExplainOptions(PredictOptions, total=False)", schema, "/explain"))
    return "\n".join(parts)


def _object(name: str, schema: Mapping[str, Any]) -> str:
    """A kind of target that is an object, whose members may be Python's keywords."""
    members = ", ".join(f'"{member}": {_hint(of)}' for member, of in schema["properties"].items())
    said = _docstring(schema["description"], "")
    could_be_a_class = "" if any(map(keyword.iskeyword, schema["properties"])) else "  # noqa: UP013  as the others are"
    return f'{_class_name(name)} = TypedDict("{_class_name(name)}", {{{members}}}){could_be_a_class}\n{said}\n'


def _options(head: str, schema: Mapping[str, Any], path: str) -> str:
    lines = [f"class {head}:", f'    """Options of ``{path}``, as docs/api.md and docs/methods.md list them."""', ""]
    for name, of in schema["properties"].items():
        hint = "Target | Sequence[Target]" if name == "target" else _hint(of)
        lines += [f"    {name}: {hint}", _docstring(of["description"], "    ")]
    return "\n".join([*lines, ""])


def _docstring(said: str, indent: str) -> str:
    whole = f'{indent}"""{said}"""'
    if len(whole) <= _WIDTH:
        return whole
    lines = textwrap.wrap(said, _WIDTH - len(indent) - 3, break_long_words=False, break_on_hyphens=False)
    return f'{indent}"""' + f"\n{indent}".join(lines) + f'\n{indent}"""'


def _hint(schema: Mapping[str, Any]) -> str:
    return " | ".join(dict.fromkeys(_hints(schema)))


def _hints(schema: Mapping[str, Any]) -> Iterator[str]:
    for kind in schema.get("anyOf", schema.get("oneOf", [schema])):
        if "enum" in kind or "const" in kind:
            yield f"Literal[{', '.join(map(_quoted, kind.get('enum') or [kind['const']]))}]"
        elif kind["type"] == "array":
            yield from (*_hints(kind["items"]), f"Sequence[{_hint(kind['items'])}]")
        elif kind["type"] != "null":
            yield _WORDS[kind["type"]]


def _quoted(word: str) -> str:
    return f'"{word}"'


def _class_name(name: str) -> str:
    return name.strip("_").title().replace("_", "")


if __name__ == "__main__":
    FILE.write_text(text())
