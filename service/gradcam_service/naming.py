"""Names that people type: what was probably meant by one that there isn't. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_COMPARED = 100
"""Characters of a name; longer ones would take long."""
_FIRST = 20
"""Names that are compared with others; all that there may be in a request would take minutes."""


def nearest(written: str, names: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of these names that is most like what is written, in any case; None if none is.

    Args:
        written: by a person.
        names: that there are.
        likeness: twice the share of letters that both have in the same order; 1 of equal names.
    """
    by_folded = {_folded(name): name for name in names}
    close = get_close_matches(_folded(written[:_COMPARED]), by_folded, n=1, cutoff=likeness)
    return by_folded[close[0]] if close else None


def _folded(name: str) -> str:
    """A name as it is compared: Grad-CAM++ is ``gradcam_plus_plus`` where names are identifiers."""
    return name.casefold().replace("+", "_plus")


def misspelt(written: Iterable[str], names: Collection[str], likeness: float = 0.6) -> tuple[str, str] | None:
    """The first of some names that is none of these but nearly one, and that one; None if none of the first few is."""
    strange = islice((name for name in written if name not in names), _FIRST)
    return next(((name, meant) for name in strange if (meant := nearest(name, names, likeness))), None)


def did_you_mean(written: object, names: Iterable[str], likeness: float = 0.6) -> str:
    """`` (did you mean 'colormap'?)``, to follow what is written; empty where no name is like it."""
    return _meant(nearest(str(written), names, likeness))


def complaint(error: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with one member of a model, and what was probably meant where a name is none that there is.

    Args:
        error: of pydantic.
        model: whose validation has raised it.
    """
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *place, name = error["loc"]
        there = _members(model)
        for part in place:
            there = _members(there.get(str(part)))
        inside = [f"{outer}.{inner}" for outer, kind in there.items() for inner in _members(kind) if inner == name]
        meant = nearest(str(name), there) or next(iter(inside), None)
        return f"not permitted{_meant(meant)}; there are {', '.join(there)}"
    if error["type"] in ("float_parsing", "int_parsing") and (field := model.model_fields.get(str(error["loc"][0]))):
        return said + _bounds(field)
    if error["type"] == "literal_error":
        choices = re.findall("'([^']*)'", error["ctx"]["expected"])
        return f"{said}{did_you_mean(error['input'], choices)}"
    return said


def _bounds(field: FieldInfo) -> str:
    """``; at least 0 and at most 1``, to follow what is wrong; empty where a number has no bounds."""
    words = {"ge": "at least", "gt": "above", "lt": "below", "le": "at most"}
    edges = [(said, getattr(bound, edge, None)) for bound in field.metadata for edge, said in words.items()]
    bounds = [f"{said} {value}" for said, value in edges if value is not None]
    return f"; {' and '.join(bounds)}" if bounds else ""


def _meant(name: str | None) -> str:
    return f" (did you mean {name!r}?)" if name else ""


def _members(kind: Any) -> Mapping[str, Any]:  # noqa: ANN401  an annotation
    """Name and annotation of each member of a model or a dataclass, be it optional; none of anything else."""
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return {name: field.annotation for name, field in one.model_fields.items()}
        if is_dataclass(one):
            return {name: hint for name, hint in get_type_hints(one).items() if name in one.__dataclass_fields__}
    return {}
