"""Model repositories on disk: ``<name>/<version>/model.yaml``, and ``<name>/aliases.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from service.errors import ModelFailed
from service.registry.spec import Model, Spec

EMBEDDED = Path(__file__).parent.parent / "zoo" / "models"
"""The models that ship with the service."""


@dataclass(frozen=True)
class Entry:
    """One version of a model in a repository.

    Attributes:
        folder: holds its ``model.yaml`` and the files that it names.
        aliases: other names of this version.
    """

    name: str
    version: str
    folder: Path
    aliases: tuple[str, ...]

    @property
    def key(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    def unloaded(self) -> Model:
        """The model before anything is known but its name."""
        return Model(self.name, self.version, list(self.aliases), "unloaded")

    def spec(self) -> Spec:
        """Read ``model.yaml``.

        Raises:
            ModelFailed: naming the file, the field and what is allowed.
        """
        return parse_spec(self.folder / "model.yaml")


def scan(repositories: Iterable[Path]) -> list[Entry]:
    """Every model version in the repositories, the embedded one last; the first repository to have a name owns it.

    Raises:
        ModelFailed: a repository can't be read.
    """
    found: dict[str, list[Entry]] = {}
    for root in (*repositories, EMBEDDED):
        try:
            folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        except OSError as error:
            raise ModelFailed(f"model repository {root} can't be read: {error.strerror}") from error
        for folder in folders:
            try:
                found.setdefault(folder.name, _versions(folder))
            except OSError as error:
                raise ModelFailed(f"{folder} can't be read: {error.strerror}") from error
    return [entry for entries in found.values() for entry in entries]


def parse_spec(path: Path) -> Spec:
    """A ``model.yaml`` as a `Spec`.

    Raises:
        ModelFailed: naming the file, the field and what is allowed.
    """
    try:
        return Spec.model_validate(_read_yaml(path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ModelFailed(f"{path}: {problems}") from error


def _versions(folder: Path) -> list[Entry]:
    aliases = _aliases(folder)
    return [
        Entry(folder.name, version.name, version, tuple(alias for alias, of in aliases.items() if of == version.name))
        for version in sorted(folder.iterdir())
        if (version / "model.yaml").is_file()
    ]


def _aliases(folder: Path) -> dict[str, str]:
    """Alias → version, from ``aliases.yaml`` where there is one."""
    path = folder / "aliases.yaml"
    if not path.exists():
        return {}
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise ModelFailed(f"{path}: must map each alias to a version")
    return {str(alias): str(version) for alias, version in content.items()}


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFailed(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # of a date that is none, or bytes that are no UTF-8
        raise ModelFailed(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
