"""Steps between two model tables of a worker: what has to be done for what was decided. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter

from gradcam_service.registry.repository import Entry
from gradcam_service.worker.table import Table, Version


@dataclass(frozen=True)
class Load:
    """Load what the repository holds; then `ended` wants to be told."""

    token: int
    entry: Entry


@dataclass(frozen=True)
class Accelerate:
    """Keep the model that this load made, and make it faster; then `accelerated` wants to be told."""

    token: int
    version: Version


@dataclass(frozen=True)
class Complete:
    """Bring in the full model, of which this load made the compiled form; then `completed` wants to be told."""

    token: int
    entry: Entry


@dataclass(frozen=True)
class Drop:
    """Let go of the model that this load made."""

    token: int
    version: Version


def todo(before: Table, after: Table) -> list[Load | Accelerate | Complete | Drop]:
    """What has to be done for what was decided between two tables."""
    old, new = before.models, after.models
    begun = [(version.load, version.entry) for version in after.versions.values() if version.load is not None]
    return [
        *(Drop(token, version) for token, version in old.items() if token not in new),
        *(Accelerate(token, version) for token, version in new.items() if token not in old),
        *(Complete(token, new[token].entry) for token in _completing(new) - _completing(old)),
        *(Load(token, entry) for token, entry in sorted(begun, key=itemgetter(0)) if token > before.loads),
    ]


def _completing(models: Mapping[int, Version]) -> set[int]:
    return {token for token, version in models.items() if version.completing}
