"""Writes into these pages what the code itself says: ``make docs``.

It stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->``: a table has the name of a function here, an example
that of its file.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from gradcam_service import metrics as defined
from gradcam_service.api.problems import fault
from gradcam_service.core.options import METHOD_OPTIONS, ExplainOptions, alternatives
from gradcam_service.errors import BadSettings, NeedsFullModel, ServiceError, from_code
from gradcam_service.explain.method import Case, Iterative
from gradcam_service.explain.methods import METHODS, in_order
from gradcam_service.export.program import program_for
from gradcam_service.registry.repository import EMBEDDED, parse_spec
from gradcam_service.settings import Settings

DOCS = Path(__file__).parent
ROOT = DOCS.parent


def settings() -> str:
    """Every setting with its default, in the order of `Settings`."""
    rows = [
        (f"`GRADCAM_{name.upper()}`", f"`{_default(field.default)}`", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "default", "what"), rows)


def errors() -> str:
    """Every error that a caller may be answered with, by status."""
    rows = []
    for kind in sorted(_kinds(ServiceError), key=lambda kind: fault(from_code(kind.code, ""), "").status):
        said = fault(from_code(kind.code, ""), "")
        retry = said.headers.get("Retry-After", "")
        rows.append((str(said.status), f"`{kind.code}`", _first_line(kind), f"{retry} s" if retry else ""))
    return _table(("status", "code", "when", "`Retry-After`"), rows)


def methods() -> str:
    """Every explanation method in its own words; costs are those of one class on a ResNet-18."""
    resnet18 = Case((224, 224), channels=512, linear_head=True)
    rows = []
    for name in in_order():
        method = METHODS[name]
        passes = 1 + (method.passes(resnet18, **method.defaults) if isinstance(method, Iterative) else 0)
        shows = f"[{method.title}]({method.paper}): {method.summary.format(target='a class')}"
        options = ", ".join(f"`{option}` {default:g}" for option, default in method.defaults.items())
        explained = "input" if method.of_input else "layer"
        runs = "in chunks" if isinstance(method, Iterative) else "in the batch"
        rows.append((f"`{name}`", shows, options, method.kind, explained, runs, f"{passes:g}"))
    head = ("method", "what it shows", "options", "kind of map", "explains", "runs", "forward passes on a ResNet-18")
    return _table(head, rows)


def metrics() -> str:
    """Every metric in its own words."""
    rows = []
    for metric in _metrics():
        (described,) = metric.describe()
        name = f"{described.name}_total" if isinstance(metric, Counter) else described.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", described.type, labels, described.documentation.rstrip(".")))
    return _table(("metric", "type", "labels", "what"), rows)


def labels() -> str:
    """What the labels of metrics hold."""
    return _table(("label", "what"), [(f"`{label}`", what) for label, what in defined.LABELS.items()])


def buckets() -> str:
    """The upper bounds of every histogram, but for the last, which has none."""
    histograms = [metric for metric in _metrics() if isinstance(metric, Histogram)]
    rows = [
        (f"`{metric.describe()[0].name}`", ", ".join(f"{bound:g}" for bound in metric._upper_bounds[:-1]))
        for metric in histograms
    ]
    return _table(("histogram", "buckets"), rows)


def options() -> str:
    """Every option of ``/explain`` but those of single methods; the first few are those of ``/predict``, too."""
    rows = []
    for name, schema in ExplainOptions.model_json_schema()["properties"].items():
        if name not in METHOD_OPTIONS:
            default = schema.get("default")
            shown = "–" if default is None else f"`{str(default).lower()}`"
            rows.append((f"`{name}`", shown, _values(schema), schema["description"].replace("|", "\\|")))
    return _table(("option", "default", "values", "what"), rows)


def _values(schema: dict[str, Any]) -> str:
    """What may be sent for an option."""
    said = []
    for kind in alternatives(schema):
        least, most = (kind.get(edge, kind.get(f"exclusive{edge.capitalize()}")) for edge in ("minimum", "maximum"))
        if "enum" in kind:
            said += [f"`{word}`" for word in kind["enum"]]
        elif kind["type"] in ("integer", "number"):
            above = "above " if "exclusiveMinimum" in kind else ""
            said.append(f"{above}{least:g} to {most}" if most is not None and most < 1e9 else f"{above}{least:g}")
        elif kind["type"] == "boolean":
            said.append("`true`")
    return ", ".join(said) or "text"


def program() -> str:
    """The heart of what `gradcam export imagenet` writes beside the file."""
    spec = parse_spec((EMBEDDED / "imagenet" / "1" / "model.yaml").read_text(), "imagenet")
    text = program_for("imagenet", "imagenet@1", spec)
    return f"```python\n{text[text.index('def opened') : text.index('def overlay')].rstrip()}\n```"


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "errors": errors,
    "methods": methods,
    "metrics": metrics,
    "labels": labels,
    "buckets": buckets,
    "options": options,
    "program": program,
}


def renewed(page: str) -> str:
    """The text of a page with its tables and files as they are now."""
    return re.sub(r"<!-- ([\w/.]+) -->\n.*?<!-- end of \1 -->", _renewed, page, flags=re.DOTALL)


def _renewed(found: re.Match[str]) -> str:
    name = found[1]
    text = TABLES[name]() if name in TABLES else f"```python\n{(ROOT / name).read_text()}```"
    return f"<!-- {name} -->\n{text}\n<!-- end of {name} -->"


def main() -> None:
    """Renew every page of this folder."""
    for path in DOCS.glob("*.md"):
        path.write_text(renewed(path.read_text()))


def _metrics() -> list[Counter | Gauge | Histogram]:
    return [metric for metric in vars(defined).values() if isinstance(metric, Counter | Gauge | Histogram)]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def _default(value: object) -> str:
    """A default as the table shows it: a dash where there is none."""
    return "–" if value in (None, ()) else str(value)


def _kinds(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    """The classes below that have a code of their own, but for those that nobody is answered with."""
    for below in kind.__subclasses__():
        if "code" in vars(below) and below not in (BadSettings, NeedsFullModel):
            yield below
            yield from _kinds(below)


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0].rstrip(".")


if __name__ == "__main__":
    main()
