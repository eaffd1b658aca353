"""Waits of a load, told while it waits to whoever shows the state of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TELL: ContextVar[Callable[[str], object] | None] = ContextVar("tell", default=None)


@contextmanager
def heard_by(tell: Callable[[str], object]) -> Iterator[None]:
    """Have what is waited for in this thread told to somebody while the block runs; who may raise, which ends it."""
    before = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(before)


def waits_for(what: str) -> None:
    """Say what the load of a model waits for, a sentence's end; nobody may be there to hear it."""
    if tell := _TELL.get():
        tell(what)
