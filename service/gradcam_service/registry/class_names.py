"""Classes by what people call them: a label, one of the synonyms in it, in any case; or an index."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice

from gradcam_service.errors import UnknownTarget, shortened

_FEW = 5
"""Classes that a refusal names."""
_COMPARED = 1000
"""Names that are compared letter by letter, which takes some ms."""


def class_index(written: int | str, labels: Sequence[str]) -> int:
    """The class that is meant: by its label, else by its index, else by a name that no other class has.

    The names of ``tabby, tabby cat`` are itself and, as ImageNet's labels are lists, ``tabby`` and ``tabby cat``; what
    is written in other case, or with underscores for blanks, is the same name.

    Raises:
        UnknownTarget: there is no such class, or several are called so; with the indices of those it may mean.
    """
    meant = _meant(written, labels)
    if len(meant) == 1:
        return meant[0]
    shown = shortened(str(written))
    if meant:
        among = _with_indices(meant, labels)
        raise UnknownTarget(f"{len(meant)} classes are labelled {shown!r}: {among}; an index names one")
    listed = ", ".join(label.partition(",")[0] for label in labels[:12]) + (", …" if len(labels) > 12 else "")
    there_are = f"the model has {len(labels)} classes, 0 to {len(labels) - 1}: {listed}"
    if isinstance(written, int):
        raise UnknownTarget(f"there is no class {shown}; {there_are}")
    near = _near(written, labels)
    also = f"; near it: {_with_indices(near, labels)}" if near else ""
    raise UnknownTarget(f"no class is labelled {shown!r}; {there_are}{also}")


def _meant(written: int | str, labels: Sequence[str]) -> Sequence[int]:
    if isinstance(written, str):
        if same := [index for index, label in enumerate(labels) if label == written]:
            return same
        if not re.fullmatch("-?[0-9]{1,9}", written):
            whole, synonyms = _by_name(tuple(labels))
            return whole.get(_name(written), ()) or synonyms.get(_name(written), ())
    index = int(written)
    return [index] if 0 <= index < len(labels) else ()


def _name(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())


@lru_cache(maxsize=64)
def _by_name(labels: tuple[str, ...]) -> tuple[Mapping[str, list[int]], Mapping[str, list[int]]]:
    """Indices of the classes of each whole label, and of each synonym in one."""
    whole: dict[str, list[int]] = defaultdict(list)
    synonyms: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        for found, names in ((whole, {_name(label)}), (synonyms, set(map(_name, label.split(","))))):
            for name in names - {""}:
                found[name].append(index)
    return whole, synonyms


def _near(written: str, labels: Sequence[str]) -> list[int]:
    """The few classes whose names have all words that are written, or else nearly the same letters."""
    name = _name(shortened(written))
    _, synonyms = _by_name(tuple(labels))
    words = set(name.split())
    alike: Iterable[str] = [known for known in synonyms if words and words <= set(known.split())]
    if not alike:
        like_it = (known for known in synonyms if known[0] == name[:1] and abs(len(known) - len(name)) < _FEW)
        alike = get_close_matches(name, islice(like_it, _COMPARED), n=_FEW, cutoff=0.75)
    found = dict.fromkeys(index for known in alike for index in synonyms[known])
    return list(found)[:_FEW]


def _with_indices(indices: Sequence[int], labels: Sequence[str]) -> str:
    shown = ", ".join(f"{index} {shortened(labels[index])!r}" for index in indices[:_FEW])
    return shown + (", …" if len(indices) > _FEW else "")
