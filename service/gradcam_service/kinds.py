"""Kinds of a thing, one file each: methods, targets, inputs, tasks, sources, runtimes, dialects, and what evaluates."""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.util import decode_source
from pathlib import Path
from symtable import symtable
from types import ModuleType
from typing import Generic, TypeVar

from gradcam_service.errors import BadSettings, first_line, shortened
from gradcam_service.naming import did_you_mean

Kind = TypeVar("Kind")

CONSTANTS = ("METHOD", "TARGET", "INPUT", "TASK", "SOURCE", "RUNTIME", "DIALECT", "DATASET", "PROTOCOL", "STUDY")
"""What a file declares, in the one that says which kind of a thing it is."""
_PLUGINS: dict[str, dict[str, Path]] = defaultdict(dict)
"""Files of plugins: constant → name → file."""
_CODE: dict[str, str] = {}
"""SHA-256 of plugins' files, helpers included, as they were when they were loaded: path in the folder → digest."""
_EXTENDING = {"TARGET": "gradcam_service.targets.TargetKind", "TASK": "gradcam_service.tasks.Task"}
"""Kinds that extend a `KindBase`, and which."""


class Kinds(Mapping[str, Kind], Generic[Kind]):
    """All kinds of one thing by name: each a module of a package here, or of an operator's folder of plugins.

    A module's name is the kind's name in requests and in ``model.yaml``, and the module declares the kind in one
    constant. It is imported when it is looked up, so that a kind that nobody uses costs nothing. Modules whose names
    begin with an underscore are helpers of others. A plugin's kind replaces one of the same name.

    Args:
        package: holds the modules, as ``gradcam_service.explain.methods``.
        constant: what each module declares, as ``METHOD``.
    """

    def __init__(self, package: str, constant: str) -> None:
        self._package = package
        self._constant = constant

    def __getitem__(self, name: str) -> Kind:
        if (plugin := _PLUGINS[self._constant].get(name)) is not None:
            module = _imported(plugin)
        elif name in self._own:
            module = _module(f"{self._package}.{name}")
        else:
            raise KeyError(name)
        kind: Kind = getattr(module, self._constant)
        return kind

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._own, *_PLUGINS[self._constant]])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _own(self) -> list[str]:
        paths = import_module(self._package).__path__
        return [module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_")]


class KindBase:
    """Base of what kinds of a thing extend: refuses a member that the thing doesn't have, which would be ignored."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        thing = next(base for base in reversed(cls.__mro__) if issubclass(base, KindBase) and base is not KindBase)
        known = [name for name in dir(thing) if not name.startswith("_")]
        own = (name for name in [*dir(cls), *vars(cls).get("__annotations__", ())] if not name.startswith("_"))
        if strange := [name for name in own if name not in known]:
            raise TypeError(
                f"a {thing.__name__} has no {strange[0]!r}{did_you_mean(strange[0], known)}; it has {', '.join(known)}"
            )


def no_such(name: str, names: Iterable[str]) -> str:
    """What to say of a name that is none of those that there are: the one that was probably meant, and all of them."""
    known = list(names)
    return f"there is no {shortened(name)!r}{did_you_mean(name, known)}; there are {', '.join(map(repr, known))}"


def load_plugins(folder: Path | None) -> None:
    """Make the kinds known that the Python files of ``folder`` declare; called by every process at its start.

    A file declares one or several of `CONSTANTS`; its name without ``.py`` is the kind's name. Hidden files are none,
    nor are helpers that begin with an underscore.

    Args:
        folder: None for no plugins.

    Raises:
        BadSettings: there is no such folder, or a file can't be read or imported, or declares nothing, or no kind of
            the thing.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise BadSettings(f"GRADCAM_PLUGINS: there is no folder {folder}")
    paths = sorted(folder.glob("[!_.]*.py"))
    _CODE.update(_digests(folder))
    declared = {path: _declared(path) for path in paths}
    for path, constants in declared.items():  # all before any is imported, since one may import what asks for others
        for constant in constants:
            _PLUGINS[constant][path.stem] = path
    for path, constants in declared.items():
        module = _imported(path)
        if not constants:
            raise BadSettings(f"GRADCAM_PLUGINS: {path} declares none of {', '.join(CONSTANTS)}")
        for constant in _EXTENDING.keys() & constants:
            kind, base = getattr(module, constant), _EXTENDING[constant]
            if isinstance(kind, type):
                raise BadSettings(f"GRADCAM_PLUGINS: {constant} of {path} is a class; {kind.__name__}() would work")
            if not isinstance(kind, pkgutil.resolve_name(base)):
                raise BadSettings(f"GRADCAM_PLUGINS: {constant} of {path} doesn't extend {base}")


def plugins_digest() -> str:
    """Hex SHA-256 of the code of all plugins, as this process loaded it."""
    return hashlib.sha256(repr(sorted(_CODE.items())).encode()).hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    try:
        files = {path: path.read_bytes() for path in folder.rglob("[!.]*.py") if path.is_file()}
    except OSError as error:
        raise BadSettings(f"GRADCAM_PLUGINS: {error.filename} can't be read: {error.strerror}") from error
    return {str(path.relative_to(folder)): hashlib.sha256(content).hexdigest() for path, content in files.items()}


def _declared(path: Path) -> list[str]:
    """The constants that a file declares, without running it."""
    try:
        symbols = symtable(decode_source(path.read_bytes()), str(path), "exec").get_symbols()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadSettings(f"GRADCAM_PLUGINS: {path} can't be imported: {first_line(error)}") from error
    given = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    return [constant for constant in CONSTANTS if constant in given]


_module = cache(import_module)
"""Kinds are looked up a dozen times in every request."""


@cache
def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gradcam_plugins.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for types
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever an operator's code raises, the start ends in one line that names the file
        raise BadSettings(f"GRADCAM_PLUGINS: {path} can't be imported: {first_line(error)}") from error
    return module
