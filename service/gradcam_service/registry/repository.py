"""Lists model repositories: ``<name>/<version>/model.yaml`` and ``<name>/aliases.yaml``, in a folder or at a URL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import ValidationError

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.naming import complaint
from gradcam_service.registry.labels import as_text
from gradcam_service.registry.listing import Model
from gradcam_service.registry.misplaced import misplaced
from gradcam_service.registry.places import LocalPlace, Place, place_at
from gradcam_service.registry.spec import Spec

_OWN_FAULTS = (yaml.YAMLError, ValueError, type(None))
"""What is behind the failure of a file that is itself wrong; else it is the machine, the network or the store."""

EMBEDDED = Path(__file__).parent.parent / "zoo" / "models"
"""The models that ship with the service."""


@dataclass(frozen=True)
class Entry:
    """One version of a model in a repository. Entries are equal as long as no file of theirs changes.

    Attributes:
        place: holds its ``model.yaml`` and the files that it names.
        stamps: name and stamp of each of its files.
    """

    name: str
    version: str
    place: Place
    stamps: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def is_embedded(self) -> bool:
        """Whether it ships with the service."""
        return isinstance(self.place, LocalPlace) and EMBEDDED in self.place.path.parents

    def spec(self) -> Spec:
        """Read ``model.yaml``.

        Raises:
            ModelFailed: naming the file, the field and what is allowed.
        """
        return parse_spec(self.place.text("model.yaml"), f"{self.place}/model.yaml")

    def folder(self) -> Path:
        """Fetch its files to this machine if need be, and return their folder.

        Raises:
            ModelFailed: they can't be fetched.
        """
        return self.place.local(self.stamps)


@dataclass(frozen=True)
class Listing:
    """Every model version and alias of the repositories.

    Attributes:
        entries: every model version.
        aliases: alias → version, by model; the version need not be there.
        unusable: what is wrong with an ``aliases.yaml``, by model, whose aliases stay as they are.
        misplaced: sentences about files that look like a model's and lie where none is read.
    """

    entries: tuple[Entry, ...] = ()
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    misplaced: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def passed_over(self) -> list[str]:
        """Sentences about files that are not read, or say nothing."""
        return [*self.misplaced, *self.unusable.values()]

    @property
    def astray(self) -> list[str]:
        """Sentences about files and aliases that are of no version."""
        versions = {(entry.name, entry.version) for entry in self.entries}
        dangling = [
            f"{name}@{alias} is version {version}, which is not there"
            for name, aliases in self.aliases.items()
            for alias, version in aliases.items()
            if (name, version) not in versions
        ]
        return [*self.passed_over, *dangling]

    def models(self) -> list[Model]:
        """Every version before anything is known but its name."""
        return [
            Model(
                entry.name,
                entry.version,
                [alias for alias, version in self.aliases.get(entry.name, {}).items() if version == entry.version],
                "unloaded",
            )
            for entry in self.entries
        ]


def scan(repositories: Iterable[str | Path], embedded: bool = True) -> Listing:
    """List the repositories, the embedded one last; the first repository to have a name owns it.

    Args:
        repositories: folders or URLs.
        embedded: whether the embedded one is among them.

    Raises:
        ModelFailed: a repository can't be read.
    """
    entries: dict[str, list[Entry]] = {}
    aliases: dict[str, Mapping[str, str]] = {}
    unusable: dict[str, str] = {}
    strays: list[str] = []
    for place in (*map(place_at, repositories), *([LocalPlace(EMBEDDED)] if embedded else [])):
        versions: dict[str, dict[str, list[tuple[str, str]]]] = {}
        # What is hidden, and keys of a bucket that are no path (a/../b, a//b), are passed over.
        files = {path: stamp for path, stamp in place.stamps() if not re.search(r"(^|/)(\.|/|$)", path)}
        strays += (f"{place}/{said}" for said in misplaced(files))
        for path, stamp in files.items():
            name, _, rest = path.partition("/")
            version, _, file = rest.partition("/")
            if file:
                versions.setdefault(name, {}).setdefault(version, []).append((file, stamp))
            elif version == "aliases.yaml" and name not in entries:
                try:
                    aliases[name] = _aliases(place / name)
                except ModelFailed as error:
                    if not isinstance(error.__cause__, _OWN_FAULTS):
                        raise
                    unusable[name] = error.detail
        for name, found in versions.items():
            entries.setdefault(
                name,
                [
                    Entry(name, version, place / name / version, tuple(files))
                    for version, files in found.items()
                    if "model.yaml" in dict(files)
                ],
            )
    owned = tuple(entry for found in entries.values() for entry in found)
    return Listing(owned, aliases, unusable, tuple(strays))


class _Loader(yaml.SafeLoader):
    """Loader of YAML that takes labels for the text that is written: ``labels: [no, yes]``."""

    def construct_document(self, node: yaml.Node) -> object:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value == "labels" and not isinstance(value, yaml.ScalarNode):
                as_text(value)
        return super().construct_document(node)


def parse_spec(text: str, path: str) -> Spec:
    """Validate the text of a ``model.yaml``.

    Raises:
        ModelFailed: naming the file, the field and what is allowed.
    """
    try:
        return Spec.model_validate(_parsed(text, path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {complaint(e, Spec)}" for e in error.errors()
        )
        raise ModelFailed(f"{path}: {problems}") from error


def _aliases(place: Place) -> Mapping[str, str]:
    path = f"{place}/aliases.yaml"
    content = _parsed(place.text("aliases.yaml"), path)
    if not isinstance(content, dict):
        raise ModelFailed(f"{path}: must map each alias to a version, as in stable: 1")
    return {str(alias): str(version) for alias, version in content.items()}


def _parsed(text: str, path: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date that is none
        raise ModelFailed(f"{path} is not YAML: {first_line(error)}") from error
