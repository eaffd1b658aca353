"""Imports an operator's own modules: found in one folder alone, and imported again once a file there has changed."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, all_suffixes
from pathlib import Path
from types import ModuleType

from gradcam_service.errors import ModelFailed, in_one_line

_IMPORTED: dict[Path, str] = {}
"""Digest of each folder when modules of it were imported: what ``sys.modules`` holds of it."""


class OperatorCode:
    """An operator's code: the Python files of one folder, as they are now.

    Args:
        root: the folder; nothing outside it is ever imported by name.

    Attributes:
        digest: hex SHA-256 of all code in it, names included. Hidden files are left out.

    Raises:
        ModelFailed: there is no such folder, or it holds Python itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        if not self._root.is_dir():
            raise ModelFailed(f"GRADCAM_PYTHON_PATH: there is no folder {root}")
        if Path(os.__file__).resolve().is_relative_to(self._root):  # such as /, where everything is
            raise ModelFailed(f"GRADCAM_PYTHON_PATH: {root} holds Python itself; name a folder of your own code alone")
        self.digest = _digest(self._root)

    def imported(self, name: str) -> ModuleType:
        """Import a module, after it has been found in the folder and nowhere before it.

        Modules of a folder whose code has not changed since are those imported then: some can't be imported twice, as
        they register operators or types.

        Args:
            name: ``package.module``.

        Raises:
            ModelFailed: it is not in the folder, it is hidden by another of its name, or importing it fails.
        """
        if _IMPORTED.get(self._root) != self.digest:
            self._forget()
        importlib.invalidate_caches()
        if str(self._root) not in sys.path:
            sys.path.append(str(self._root))  # last, so that it hides nothing
        self._check(name)
        _IMPORTED[self._root] = self.digest
        try:
            with _no_bytecode():
                return importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            raise ModelFailed(f"{name} can't be imported from {self._root}: {in_one_line(error)}") from error

    def defines(self, made: Callable[..., object]) -> bool:
        """Whether a function or class is the folder's own, and not one that a module there has imported for itself."""
        if not (inspect.isroutine(made) or inspect.isclass(made)):
            return True
        return self._holds(getattr(sys.modules.get(str(made.__module__)), "__spec__", None))

    def _forget(self) -> None:
        for name, module in list(sys.modules.items()):
            if self._holds(getattr(module, "__spec__", None)):
                del sys.modules[name]

    def _check(self, name: str) -> None:
        """Find the module and its packages in the folder, without importing any of them."""
        parts = name.split(".")
        where: list[str] = [str(self._root)]
        for count in range(1, len(parts) + 1):
            part = ".".join(parts[:count])
            found = PathFinder.find_spec(part, where)
            if found is None:
                reason = f"there is no {part} in {self._root}, and only code in that folder may run"
                raise ModelFailed(f"{name} can't be imported: {reason}")
            if not self._holds(found):
                raise ModelFailed(f"{part} leads out of {self._root}; only code in that folder may run")
            where = list(found.submodule_search_locations or [])
        if not self._holds(_known(parts[0])):
            raise ModelFailed(f"{parts[0]} in {self._root} has the name of a module that is installed; rename it")

    def _holds(self, spec: ModuleSpec | None) -> bool:
        """Whether all that a module consists of lies in the folder, links followed."""
        if spec is None:
            return False
        places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or [])
        return bool(places) and all(Path(place).resolve().is_relative_to(self._root) for place in places)


def _known(name: str) -> ModuleSpec | None:
    """What ``import name`` would find."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    return importlib.util.find_spec(name)


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    suffixes = tuple(all_suffixes())
    for folder, folders, names in os.walk(root, followlinks=True):  # volumes of Kubernetes are links
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(names):
            path = Path(folder, name)
            if name.endswith(suffixes) and not name.startswith(".") and path.is_file():
                total.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave no compiled files behind: one is taken for its source if that changed within the second and not in size."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
