"""Model table of a worker, and its pure decisions: what to load, accelerate and evict. Torch-free.

Functions here take a `Table` and return the next one; none waits, looks at a clock or touches a model. First one says
what has happened (`found`, `asked`, `ended` and the like), then `reconcile` decides what
becomes of it; `gradcam_service.worker.steps` says what that takes. A load is known by its token, so that the outcome of
one that nobody waits for any more changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

import msgspec

from gradcam_service.errors import ModelFailed, UnknownModel
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model, State, version_order
from gradcam_service.registry.repository import Entry
from gradcam_service.worker.poller import Snapshot

RETRY = 30.0
"""Seconds for which a model that failed to load is not tried again on demand."""


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes:
        entry: what the repository holds now.
        load: token of the load of ``entry`` that is under way.
        waits: what that load waits for, where it has said so; without one, what the full model does.
        model: token of the load that made what answers: of ``entry`` or, while that is not loaded, of what was before.
        card: of the content last loaded, of its compiled form where that answers.
        accelerating: whether ``model`` is being made faster.
        completing: whether the full model, of which ``model`` is the compiled form, is being brought in.
        whole: bytes that the full model takes beside that; 0 where it isn't there.
        incomplete: why that can't be; empty where it can, or nobody has tried.
        failure: why ``entry`` can't be loaded; empty where it can, or nobody has tried.
        failed_at: when the one or the other was found, seconds.
        pinned: whether somebody asked for this very version to be loaded.
        evicted: unloaded, to make room or on request, and not to be loaded before it is asked for.
        used: when it last got a job, seconds.
    """

    entry: Entry
    load: int | None = None
    waits: str = ""
    model: int | None = None
    card: Card | None = None
    accelerating: bool = False
    completing: bool = False
    whole: int = 0
    incomplete: str = ""
    failure: str = ""
    failed_at: float = 0.0
    pinned: bool = False
    evicted: bool = False
    used: float = 0.0

    @property
    def state(self) -> State:
        """What callers are told of it."""
        if self.model is not None:
            return "ready"
        if self.load is not None:
            return "loading"
        return "failed" if self.failure else "unloaded"

    @property
    def memory(self) -> int:
        """Bytes that it takes, of the compiled form and of the full model."""
        return 0 if self.card is None else self.card.memory + self.whole

    @property
    def waiting(self) -> int | None:
        """Token of what may be waiting: of the load that is under way, or of what is being completed; None for none."""
        if self.load is not None:
            return self.load
        return self.model if self.completing else None

    def dropped(self) -> Version:
        """Without the model that answers; what is queued for it still holds it."""
        gone = replace(self, model=None, accelerating=False, completing=False, whole=0, incomplete="")
        return replace(gone, pinned=False)


@dataclass(frozen=True)
class Stuck:
    """An alias that can't be what ``aliases.yaml`` says.

    Attributes:
        wanted: the version that it should name.
        at: the version that it names until then; None for none.
        reason: what is wrong with ``wanted``.
    """

    name: str
    alias: str
    wanted: str
    at: str | None
    reason: str

    def __str__(self) -> str:
        stays = "names nothing" if self.at is None else f"stays at {self.at}"
        return f"alias {self.alias} {stays}: version {self.wanted}, which it should name, {self.reason}"


@dataclass(frozen=True)
class Table:
    """Every model version, and what is wanted of them.

    Attributes:
        versions: by ``name@version``.
        snapshot: what the repositories hold.
        aliases: alias → version that answers for it, by model.
        loads: begun so far, and the token of the last.
        budget: bytes that the parameters of all models may take, those that runtimes hold included; 0 sets no bound.
    """

    versions: Mapping[str, Version] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    loads: int = 0
    budget: int = 0

    def known(self, key: str) -> Version:
        """The version of that key.

        Raises:
            UnknownModel: there is no such version.
        """
        if key not in self.versions:
            raise UnknownModel(f"there is no model {key!r}")
        return self.versions[key]

    def awaits(self, token: int) -> bool:
        """Whether the outcome of that load would change anything."""
        return any(version.load == token for version in self.versions.values())

    @property
    def models(self) -> dict[int, Version]:
        """What is in memory: the versions that can answer, by the token of the load that made their model."""
        return {version.model: version for version in self.versions.values() if version.model is not None}

    @property
    def busy(self) -> bool:
        """Whether anything is being loaded or made faster."""
        return any(version.load is not None or version.accelerating for version in self.versions.values())

    def status(self) -> list[Model]:
        """Every version in its present state, with what is to be said of aliases that stay there."""
        stuck = self.stuck()
        return [self._status(version, stuck) for version in self.versions.values()]

    def told(self, name: str) -> Mapping[str, str]:
        """The version that each alias of a model should name: what it names, while ``aliases.yaml`` can't be used."""
        listing = self.snapshot.listing
        return (self.aliases if name in listing.unusable else listing.aliases).get(name, {})

    def stuck(self) -> list[Stuck]:
        """The aliases that can't be what ``aliases.yaml`` says, as there is no such version or it can't be loaded."""
        found = []
        for name, aliases in self.snapshot.listing.aliases.items():
            for alias, wanted in aliases.items():
                target, at = self.versions.get(f"{name}@{wanted}"), self.aliases.get(name, {}).get(alias)
                if target is None:
                    found.append(Stuck(name, alias, wanted, at, "is not there"))
                elif target.failure and at != wanted:
                    found.append(Stuck(name, alias, wanted, at, "can't be loaded"))
        return found

    def _status(self, version: Version, stuck: list[Stuck]) -> Model:
        entry, reason = version.entry, version.failure
        if version.load is not None and version.waits:
            reason = f"it waits for {version.waits}"
            lacking = "is not loaded yet"
        else:
            lacking = "can't be loaded"
        if version.model is not None and reason:
            reason = f"the newer content {lacking}: {reason}"
        elif version.completing and version.waits:
            reason = f"the full model waits for {version.waits}"
        aliases = [alias for alias, of in self.aliases.get(entry.name, {}).items() if of == entry.version]
        on_demand, description = self.snapshot.loads_on_demand(entry), self.snapshot.descriptions.get(entry.key, "")
        notes = [str(one) for one in stuck if one.name == entry.name and one.at in (entry.version, None)]
        if wrong := self.snapshot.listing.unusable.get(entry.name):
            notes.append(f"aliases stay as they are: {wrong}")
        card = version.card and msgspec.structs.replace(version.card, memory=version.memory)
        return Model(entry.name, entry.version, aliases, version.state, reason, card, on_demand, description, notes)

    def _with(self, *versions: Version) -> Table:
        return replace(self, versions={**self.versions, **{version.entry.key: version for version in versions}})

    def _loading(self, version: Version) -> Table:
        """With a load of that version begun; the outcome of an earlier one counts no more."""
        token = self.loads + 1
        return replace(self._with(replace(version, load=token, waits="")), loads=token)

    def _by_name(self) -> dict[str, list[Version]]:
        """The versions of each model, the highest first."""

        def name(version: Version) -> str:
            return version.entry.name

        ordered = sorted(self.versions.values(), key=lambda version: version_order(version.entry.version), reverse=True)
        return {model: list(versions) for model, versions in groupby(sorted(ordered, key=name), key=name)}


# What has happened


def found(table: Table, snapshot: Snapshot) -> Table:
    """The repositories hold this now. New content of a version that is loaded, or is being loaded, is loaded."""
    entries = {entry.key: entry for entry in snapshot.listing}
    known = {key: table.versions.get(key, Version(entry)) for key, entry in entries.items()}
    table = replace(table, versions=known, snapshot=snapshot)
    for key, version in known.items():
        if version.entry != entries[key]:
            card = version.card if version.model is not None else None
            newer = replace(version, entry=entries[key], card=card, failure="", evicted=False)
            needed = newer.model is not None or newer.load is not None
            table = table._loading(newer) if needed else table._with(newer)
    return table


def asked(table: Table, key: str, again: bool, now: float) -> Table:
    """Somebody wants ``name@version`` loaded; ``again`` even if it is, or has failed lately.

    Raises:
        UnknownModel: there is no such version.
        ModelFailed: it failed so lately that trying again would only keep others waiting.
    """
    version = replace(table.known(key), pinned=True)
    if version.model is not None and not again:
        return table._with(version)
    if version.failure and now - version.failed_at < RETRY and not again:
        raise ModelFailed(f"model {key} can't be loaded: {version.failure}")
    return table._loading(version) if version.load is None else table._with(version)


def needed_whole(table: Table, key: str, now: float) -> Table:
    """Somebody asks a version something that its compiled form, which answers, leaves to the full model.

    Raises:
        UnknownModel, ModelFailed: as `asked`.
    """
    version = table.known(key)
    if version.model is None:
        return asked(table, key, False, now)
    if version.incomplete and now - version.failed_at < RETRY:
        raise ModelFailed(f"model {key} can't be loaded: {version.incomplete}")
    return table._with(replace(version, completing=True))


def unloaded(table: Table, key: str) -> Table:
    """Somebody wants a version forgotten until it is asked for again.

    Raises:
        UnknownModel: there is no such version.
    """
    version = table.known(key)
    return table._with(replace(version.dropped(), load=None, card=None, failure="", evicted=True))


def waits(table: Table, token: int, what: str) -> Table:
    """A load waits for something, or the full model that is brought in beside what a load made."""
    version = next((version for version in table.versions.values() if version.waiting == token), None)
    return table if version is None else table._with(replace(version, waits=what))


def ended(table: Table, token: int, outcome: Card | str, now: float) -> Table:
    """A load has ended: with a model of that card, or for that reason without one."""
    version = next((version for version in table.versions.values() if version.load == token), None)
    if version is None:
        return table
    if isinstance(outcome, Card) and 0 < table.budget < outcome.memory:
        outcome = f"it takes {outcome.memory} bytes; GRADCAM_MEMORY_BUDGET leaves {table.budget} for all models"
    if isinstance(outcome, str):
        return table._with(replace(version, load=None, waits="", failure=outcome, failed_at=now))
    fresh = replace(version.dropped(), pinned=version.pinned, load=None, model=token, card=outcome, accelerating=True)
    return table._with(replace(fresh, waits="", failure="", evicted=False, used=now))


def accelerated(table: Table, token: int, card: Card | None) -> Table:
    """The model that a load made has become faster and has this card now, or stays as it is."""
    version = table.models.get(token)
    if version is None:
        return table
    return table._with(replace(version, accelerating=False, card=card or version.card))


def completed(table: Table, token: int, more: int | str, now: float) -> Table:
    """The full model is there beside the compiled form that a load made, and takes so many bytes more; or why not."""
    version = table.models.get(token)
    if version is None or not version.completing:
        return table
    memory = version.memory
    if isinstance(more, int) and 0 < table.budget < memory + more:
        more = f"it takes {memory + more} bytes; GRADCAM_MEMORY_BUDGET leaves {table.budget} for all models"
    version = replace(version, completing=False, waits="" if version.load is None else version.waits)
    if isinstance(more, str):
        return table._with(replace(version, incomplete=more, failed_at=now))
    return table._with(replace(version, incomplete="", whole=more, used=now))


def outdated(table: Table, token: int, reason: str, now: float) -> Table:
    """The compiled form that a load made turns out to be another model's: the full model is loaded in its place."""
    version = table.models.get(token)
    if version is None:
        return table
    version = replace(version, completing=False, incomplete=reason, failed_at=now)
    return table._loading(version) if version.load is None else table._with(version)


def used(table: Table, key: str, now: float) -> Table:
    """A version has got a job."""
    return table._with(replace(table.versions[key], used=now))


def no_room(table: Table, token: int, card: Card) -> str:
    """Why a model can't be as fast as this card says; empty where it can. No other makes room for that."""
    others = sum(version.whole if of == token else version.memory for of, version in table.models.items())
    if 0 < table.budget < others + card.memory:
        return f"it takes {card.memory} bytes there; GRADCAM_MEMORY_BUDGET leaves {max(0, table.budget - others)}"
    return ""


# What follows


def reconcile(table: Table) -> Table:
    """Move aliases, drop versions that others have taken the place of, load what is wanted and not there, make room.

    Of each model that loads at start, the highest version that works is kept loaded, and every version that an alias
    names; so is the default model. The old one goes when the new one is ready; what fails to load replaces nothing.
    """
    table = replace(table, aliases=_aliases(table))
    for name, versions in table._by_name().items():
        wanted = _wanted(table, name, versions)
        highest = next((version for version in versions if version.model is not None), None)
        for version in versions:
            answers = version is highest or version.entry.version in table.aliases[name].values()
            if version.model is not None and not (answers or version.pinned or version in wanted):
                table = table._with(version.dropped())
        for version in wanted:
            if version.state == "unloaded" and not version.evicted:
                table = table._loading(version)
    return _with_room(table)


def _aliases(table: Table) -> dict[str, dict[str, str]]:
    """An alias stays where it is until the version that it now names can answer."""
    moved: dict[str, dict[str, str]] = {name: {} for name in table._by_name()}
    for name, aliases in moved.items():
        for alias, wanted in table.told(name).items():
            target = table.versions.get(f"{name}@{wanted}")
            held = table.aliases.get(name, {}).get(alias)
            holder = table.versions.get(f"{name}@{held}")
            waits = target is None or not (
                target.model is not None or target.evicted or table.snapshot.loads_on_demand(target.entry)
            )
            if waits and held is not None and holder is not None and holder.model is not None:
                aliases[alias] = held
            elif target is not None:
                aliases[alias] = wanted
    return moved


def _wanted(table: Table, name: str, versions: list[Version]) -> list[Version]:
    """Of versions that load at start: the highest that may work, and those that an alias or the default names."""
    snapshot = table.snapshot
    starting = [version for version in versions if not snapshot.loads_on_demand(version.entry)]
    aliases = {*table.aliases[name].values(), *table.told(name).values()}
    named = {snapshot.default, *(f"{name}@{version}" for version in aliases)}
    highest = next((version for version in starting if version.model is not None or not version.failure), None)
    return [version for version in starting if version is highest or version.entry.key in named]


def _with_room(table: Table) -> Table:
    """Without what was used longest ago, so that the rest fits."""
    ready = sorted(table.models.values(), key=lambda version: version.used)
    while 0 < table.budget < sum(version.memory for version in ready):
        table = table._with(replace(ready.pop(0).dropped(), evicted=True))
    return table


def moves(before: Table, after: Table) -> list[tuple[str, str | None, str | None]]:
    """Each alias that names another version than before, as ``name@alias``, and both versions; None for none."""
    was, now = (
        {f"{name}@{alias}": version for name, of in table.aliases.items() for alias, version in of.items()}
        for table in (before, after)
    )
    return [(alias, was.get(alias), now.get(alias)) for alias in was | now if was.get(alias) != now.get(alias)]
