"""Outputs of networks as people write them: the scores among whatever a forward pass returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from math import prod

from torch import Tensor

from gradcam_service.errors import UnsupportedMethod

_CALLED = ("logits", "out", "scores", "output", "last_hidden_state")
_PUT_RIGHT = "return the scores alone, call them logits in a dictionary or dataclass, or name them in model.yaml"


def scores_in(answer: object, wanted: str | int | None = None) -> Tensor:
    """The scores in a network's answer; others, such as those of auxiliary heads, are left out.

    Args:
        answer: a tensor; a dictionary, dataclass or named tuple with ``logits``, ``out``, ``scores`` or ``output``, or
            one tensor whatever its name; a tuple or list in which one tensor is a row for each image. These may hold
            each other.
        wanted: which it is: a key, an attribute or an index, of nested ones joined by dots, as in ``heads.0``.

    Raises:
        UnsupportedMethod: it is none of these, or several could be meant.
    """
    found = dict(_tensors(answer))
    if wanted is not None:
        if str(wanted) not in found:
            raise UnsupportedMethod(f"output: the network answers with {_shown(answer, found)}; none is {wanted!r}")
        return found[str(wanted)]
    for name in _CALLED:
        called = [value for path, value in found.items() if path.rpartition(".")[2] == name]
        if called:
            return _only(called, answer, found)
    if len(found) == 1 and not _holds_others(answer):
        (alone,) = found.values()
        return alone
    if isinstance(answer, tuple | list) and found and not _holds_others(answer):
        rows = [value for value in found.values() if is_a_row(value.shape)]
        return _only(rows, answer, found) if rows else next(iter(found.values()))
    return _only([], answer, found)


def with_value(answer: object, wanted: str | int | None = None) -> list[Tensor]:
    """The scores in a network's answer and, where it gives one, a value of each image: (N,), (N, 1) or the like.

    Args:
        answer: as `scores_in` takes it; or a tuple, dictionary or the like of one such value and a row of scores.
        wanted: which the scores are, if they are to be had without a value.

    Raises:
        UnsupportedMethod: as `scores_in` does.
    """
    rows = {path: value for path, value in _tensors(answer) if is_a_row(value.shape)}
    numbers = [value for value in rows.values() if prod(value.shape[1:]) == 1]
    scores = [value for value in rows.values() if prod(value.shape[1:]) > 1]
    if wanted is None and len(numbers) == len(scores) == 1:
        return [*scores, *numbers]
    return [scores_in(answer, wanted)]


def is_a_row(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape is a row for each image but for dimensions of one, as (N,) or (N, C, 1, 1)."""
    return len(shape) > 0 and prod(shape[1:]) == max((1, *shape[1:]))


def _only(candidates: list[Tensor], answer: object, found: Mapping[str, Tensor]) -> Tensor:
    if len(candidates) == 1:
        return candidates[0]
    example = next((path for path, value in found.items() if is_a_row(value.shape)), next(iter(found), "logits"))
    raise UnsupportedMethod(f"the network answers with {_shown(answer, found)}; {_PUT_RIGHT}, as in output: {example}")


def _tensors(answer: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in an answer, and the way to it."""
    if isinstance(answer, Tensor):
        yield path, answer
    for name, value in _members(answer).items():
        yield from _tensors(value, f"{path}.{name}" if path else str(name))


def _members(answer: object) -> Mapping[str, object]:
    if isinstance(answer, Mapping):
        return answer
    if dataclasses.is_dataclass(answer):
        return vars(answer)
    if isinstance(answer, tuple) and hasattr(answer, "_asdict"):
        return dict(answer._asdict())
    if isinstance(answer, tuple | list):
        return {str(index): value for index, value in enumerate(answer)}
    return {}


def _holds_others(answer: object) -> bool:
    """Whether a tuple or list holds something that no forward pass of a classifier gives, such as words."""
    return isinstance(answer, tuple | list) and not all(
        value is None or isinstance(value, Tensor) or _members(value) for value in answer
    )


def _shown(answer: object, found: Mapping[str, Tensor]) -> str:
    names = f" with {', '.join(map(str, _members(answer)))}" if _members(answer) else ""
    shapes = ", ".join(f"{path} {_shape(value)}" for path, value in found.items() if path)
    return f"a {type(answer).__name__}{names}" + (f" ({shapes})" if shapes else "")


def _shape(value: Tensor) -> str:
    return f"({', '.join(['N', *(str(int(length)) for length in value.shape[1:])])})"
